"""The store by its definition: every state it ever had, and every change, kept as plain dictionaries."""

from collections.abc import Callable
from typing import Any

from viewstamp.core.ids import Seqno, fencing_token
from viewstamp.machine.state_machine import running_at
from viewstamp.services.store import CoordinationStore
from viewstamp.services.store.types import (
    Change,
    Compacted,
    Event,
    Get,
    KeyValue,
    News,
    Watch,
)

State = dict[bytes, KeyValue]


class Store:
    """A store under test, which tells the log's positions and time itself."""

    def __init__(self, machine: CoordinationStore | None = None) -> None:
        self.machine = CoordinationStore() if machine is None else machine
        self.seqno = 0
        self.now = 0

    def do(self, method: str, *args: Any, principal: str = "anonymous", reading: bool = False) -> Any:
        """Run one command in an entry of its own, or a query behind the last entry."""
        self.seqno += not reading
        with running_at(
            self.machine, seqno=self.seqno, now=self.now, principal=principal, reading=reading
        ) as context:
            context.listens = True
            result = getattr(self.machine, method)(*args)
            self.touched, self.awaited = context.touched, context.awaited
            return result

    def ask(self, method: str, *args: Any, principal: str = "anonymous") -> Any:
        """Run a query."""
        return self.do(method, *args, principal=principal, reading=True)

    def ring(self) -> bool:
        """Run one alarm, if it is due."""
        moment = self.machine.next_alarm()
        if moment is None or moment > self.now:
            return False
        self.do("alarm")
        return True

    def token(self, seqno: int = 0) -> int:
        """Return the revision of the command of an entry; 0: of the last one."""
        return fencing_token(Seqno(seqno or self.seqno), 0)

    def restored(self) -> "Store":
        """Return a copy made through a snapshot."""
        copy = Store(type(self.machine)())
        copy.machine.restore(b"".join(self.machine.snapshot()))
        copy.seqno, copy.now = self.seqno, self.now
        return copy


class Model:
    """What a store should be: `states` by revision, and all changes in order."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {0: {}}
        self.changes: list[Change] = []

    @property
    def state(self) -> State:
        """The keys as they are."""
        return self.states[max(self.states)]

    def change(self, revision: int, events: list[tuple[bytes, bytes | None, int]]) -> None:
        """Take in a command that wrote (key, value or None for a deletion, lease) in this order."""
        state = dict(self.state)
        told: list[Event] = []
        for key, value, lease in events:
            before = state.pop(key, None)
            item = None
            if value is not None:
                create, version = (before.create, before.version + 1) if before else (revision, 1)
                item = state[key] = KeyValue(key, value, create, revision, version, lease)
            told.append(Event(key, item, before))
        if told:
            self.states[revision] = state
            self.changes.append(Change(revision, told))

    def at(self, revision: int) -> State:
        """Return the keys as they were."""
        return self.states[max(each for each in self.states if each <= revision)]

    def told(self, covers: Callable[[bytes], bool], after: int) -> list[tuple[int, Event]]:
        """Return the events of a range after a revision."""
        return [
            (change.revision, event)
            for change in self.changes
            if change.revision > after
            for event in change.events
            if covers(event.key)
        ]


def covering(key: bytes, end: bytes) -> Callable[[bytes], bool]:
    """Return whether a key is in a range, by the words of etcd's manual."""
    if not end:
        return key.__eq__
    if end == b"\0":
        return lambda each: each >= key
    return lambda each: key <= each < end


def watched(store: Store, watch: Watch) -> list[tuple[int, Event]] | Compacted:
    """Return all that a watch is told from its cursor on, and check the rules of fragments."""
    told: list[tuple[int, Event]] = []
    fragment: int | None = None
    while True:
        news = store.ask("kv_changes", watch)
        if isinstance(news, Compacted):
            return news
        for place, change in enumerate(news.changes):
            assert change.revision > watch.after, "nothing before the cursor"
            assert fragment in {None, change.revision}, "a fragment is followed by the rest of it"
            assert not change.more or place == len(news.changes) - 1
            fragment = change.revision if change.more else None
            told += [(change.revision, event) for event in change.events]
        assert (news.revision, news.skip) >= (watch.after, watch.skip), "the cursor moves on"
        if store.awaited is not None:
            assert not news.changes
            assert fragment is None
            return told
        watch = Watch(watch.key, watch.end, news.revision, news.skip, watch.prev)


def found(store: Store, get: Get) -> list[KeyValue]:
    """Return all that a read finds, page by page."""
    items: list[KeyValue] = []
    while True:
        page = store.ask("kv_range", get)
        items += page.items
        if not page.more:
            return items
        get = Get(page.items[-1].key + b"\0", get.end, get.limit, get.revision)


__all__ = ["Model", "News", "Store", "covering", "found", "watched"]
