"""Groups, members and leaders of tooz as keys, and the driver that tooz loads for `viewstamp://`.

Rules of this file:

- each change is one transaction, with conditions that name what tooz's errors name;
- a member is attached to the lease of its coordinator, and so is a leader: both end with it;
- names are quoted in keys, so that any bytes may be a name: `NAMESPACE/groups/GROUP`,
  `NAMESPACE/members/GROUP/MEMBER`, `NAMESPACE/leaders/GROUP`, `NAMESPACE/locks/LOCK/`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes
from weakref import WeakSet

from tooz import ToozError
from tooz import coordination as tooz
from tooz.utils import dumps, loads, to_binary

from viewstamp.adapters.tooz.locks import StoreLock
from viewstamp.adapters.tooz.session import Session, translated
from viewstamp.clients.conditions import Operation, Range, delete, exists, get, leased, missing, put
from viewstamp.clients.coordination_blocking import coordination_blocking
from viewstamp.runtime.discovery import Where
from viewstamp.services.store.types import Compare, Found, KeyValue, TxnDone

T = TypeVar("T")
Names = str | bytes

TIMEOUT_S: Final = 30.0
REQUEST_TIMEOUT_S: Final = 10.0
NAMESPACE: Final = "tooz"
BEAT_SHARE: Final = 2 / 3
"""Of the timeout: tooz's heart waits for half of what it is told."""
_TRAITS: Final = tooz.Characteristics


class ViewstampDriver(tooz.CoordinationDriverCachedRunWatchers, tooz.CoordinationDriverWithExecutor):
    """A coordinator: `viewstamp://HOST:PORT[,HOST:PORT]`, or `viewstamp:///PATH/cluster.toml`.

    Options in the URL:

    - `timeout` (30): seconds without `heartbeat` after which groups, locks and leaderships are gone;
    - `request_timeout` (10): seconds that one call may take;
    - `namespace` (`tooz`): begins all keys;
    - `token_file`: proves who this is, where the cluster asks for tokens;
    - `executor`: as with other drivers of tooz.
    """

    CHARACTERISTICS = (
        _TRAITS.DISTRIBUTED_ACROSS_THREADS,
        _TRAITS.DISTRIBUTED_ACROSS_PROCESSES,
        _TRAITS.DISTRIBUTED_ACROSS_HOSTS,
        _TRAITS.LINEARIZABLE,
        _TRAITS.SEQUENTIAL,
        _TRAITS.CAUSAL,
        _TRAITS.SERIALIZABLE,
        _TRAITS.SAME_VIEW_UNDER_PARTITIONS,
    )

    def __init__(self, member_id: Names, parsed_url: Any, options: dict[str, Any]) -> None:
        """Read the URL; nothing is connected before `start`.

        Raises:
            ToozError: the URL names no cluster, or an option makes no sense.
        """
        super().__init__(_binary(member_id), parsed_url, options)
        self._where = _where(parsed_url)
        self._timeout_s = _seconds(self._options, "timeout", TIMEOUT_S)
        self._request_timeout_s = _seconds(self._options, "request_timeout", REQUEST_TIMEOUT_S)
        self._namespace = str(self._options.get("namespace", NAMESPACE)).encode()
        self._token_file = self._options.get("token_file")
        self._locks: WeakSet[StoreLock] = WeakSet()
        self._session: Session | None = None

    # From start to stop

    def _start(self) -> None:
        super()._start()
        try:
            with translated():
                store = coordination_blocking(
                    self._where, timeout_s=self._request_timeout_s, token=self._token()
                )
                try:
                    self._session = Session(store, self._timeout_s)
                except BaseException:
                    store.close()
                    raise
        except BaseException:
            self._executor.stop()
            raise

    def _stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()
        super()._stop()

    def heartbeat(self) -> float:
        """Say that this coordinator lives; return after how many seconds to say it again.

        Raises:
            ToozError: the store was not told. Say it again soon.
        """
        with translated():
            self._alive().beat()
            for lock in list(self._locks):
                lock.settle()
        return self._timeout_s * BEAT_SHARE

    def _alive(self) -> Session:
        if self._session is None:
            raise ToozError("the coordinator is not started: nothing was done")
        return self._session

    def _token(self) -> Callable[[], str] | None:
        if self._token_file is None:
            return None
        path = Path(str(self._token_file))
        return lambda: path.read_text(encoding="utf-8").strip()

    # Groups

    def create_group(self, group_id: Names) -> tooz.CoordinatorResult[None]:
        """Create a group; `GroupAlreadyExist`: there is one."""

        def create() -> None:
            group = self._group(group_id)
            if not self._txn([missing(group)], [put(group, b"")]).succeeded:
                raise tooz.GroupAlreadyExist(group_id)

        return self._later(create)

    def get_groups(self) -> tooz.CoordinatorResult[list[bytes]]:
        """Return all groups."""

        def groups() -> list[bytes]:
            prefix = self._namespace + b"/groups/"
            return [_unquoted(item.key, prefix) for item in self._alive().kv.range(prefix=prefix).items]

        return self._later(groups)

    def delete_group(self, group_id: Names) -> tooz.CoordinatorResult[None]:
        """Delete a group; `GroupNotCreated`: there is none, `GroupNotEmpty`: it has members."""

        def drop() -> None:
            group, members = self._group(group_id), Range.of(None, self._members(group_id))
            empty = Compare(members.key, "version", "=", 0, members.end)
            done = self._txn([exists(group), empty], [delete(group)], [get(group)])
            if not done.succeeded:
                self._require_group(done.results[0], group_id)
                raise tooz.GroupNotEmpty(group_id)

        return self._later(drop)

    def _destroy_group(self, group_id: Names) -> None:
        """Delete a group with its members: tooz's tests do it."""
        members = Range.of(None, self._members(group_id))
        self._txn([], [delete(self._group(group_id)), delete(prefix=members.key)])

    # Members

    def join_group(
        self, group_id: Names, capabilities: tooz.Capabilities | None = None
    ) -> tooz.CoordinatorResult[None]:
        """Join a group; `GroupNotCreated`: there is none, `MemberAlreadyExist`: this member is in it."""

        def join() -> None:
            group, member = self._group(group_id), self._member(group_id, self._member_id)
            told = dumps(capabilities)

            def attach(lease: int) -> TxnDone:
                return self._txn(
                    [exists(group), missing(member)], [put(member, told, lease=lease)], [get(group)]
                )

            _, done = self._alive().attached(attach)
            if not done.succeeded:
                self._require_group(done.results[0], group_id)
                raise tooz.MemberAlreadyExist(group_id, self._member_id)
            self._joined_groups.add(_binary(group_id))

        return self._later(join)

    def leave_group(self, group_id: Names) -> tooz.CoordinatorResult[None]:
        """Leave a group; `GroupNotCreated`: there is none, `MemberNotJoined`: this member is not in it."""

        def leave() -> None:
            group, member = self._group(group_id), self._member(group_id, self._member_id)
            done = self._txn([exists(member)], [delete(member)], [get(group)])
            self._joined_groups.discard(_binary(group_id))
            if not done.succeeded:
                self._refuse_member(done, group_id, self._member_id)

        return self._later(leave)

    def get_members(self, group_id: Names) -> tooz.CoordinatorResult[set[bytes]]:
        """Return the members of a group; `GroupNotCreated`: there is none."""
        return self._later(lambda: {member for member, _ in self._items_of(group_id)})

    def get_members_with_capabilities(
        self, group_id: Names
    ) -> tooz.CoordinatorResult[dict[bytes, tooz.Capabilities | None]]:
        """Return the members of a group with their capabilities; `GroupNotCreated`: there is none."""
        return self._later(lambda: {member: loads(item.value) for member, item in self._items_of(group_id)})

    def get_member_capabilities(
        self, group_id: Names, member_id: Names
    ) -> tooz.CoordinatorResult[tooz.Capabilities | None]:
        """Return what a member said of itself; `GroupNotCreated`, `MemberNotJoined`: there is none."""
        return self._later(lambda: loads(self._item_of(group_id, member_id).value))

    def get_member_info(self, group_id: Names, member_id: Names) -> tooz.CoordinatorResult[dict[str, Any]]:
        """Return the capabilities of a member, and the revisions at which it joined and last changed them."""

        def info() -> dict[str, Any]:
            item = self._item_of(group_id, member_id)
            return {"capabilities": loads(item.value), "created_at": item.create, "updated_at": item.mod}

        return self._later(info)

    def update_capabilities(
        self, group_id: Names, capabilities: tooz.Capabilities
    ) -> tooz.CoordinatorResult[None]:
        """Say something else of this member; `GroupNotCreated`, `MemberNotJoined`: it is not in the group."""

        def update() -> None:
            group, member = self._group(group_id), self._member(group_id, self._member_id)
            told = dumps(capabilities)

            def attach(lease: int) -> TxnDone:
                return self._txn([exists(member)], [put(member, told, lease=lease)], [get(group)])

            _, done = self._alive().attached(attach)
            if not done.succeeded:
                self._refuse_member(done, group_id, self._member_id)

        return self._later(update)

    # Leaders

    def run_watchers(self, timeout: float | None = None) -> list[Any]:
        """Run the callbacks of what has changed, and stand for the elections that are watched here."""
        return super().run_watchers(timeout) + self._elect()

    def run_elect_coordinator(self) -> None:
        """Stand for election in the groups whose elections are watched here."""
        self._elect()

    def _elect(self) -> list[Any]:
        found: list[Any] = []
        for group_id in list(self._hooks_elected_leader):
            leader = self._leader(group_id)

            def stand(lease: int, leader: bytes = leader) -> TxnDone:
                return self._txn([missing(leader)], [put(leader, self._member_id, lease=lease)])

            with translated():
                _, done = self._alive().attached(stand)
            if done.succeeded:
                event = tooz.LeaderElected(group_id, self._member_id)
                found += self._hooks_elected_leader[group_id].run(event)
        return found

    def get_leader(self, group_id: Names) -> tooz.CoordinatorResult[bytes | None]:  # type: ignore[override]
        """Return who leads a group; None: nobody."""

        def leader() -> bytes | None:
            found = self._alive().kv.get(self._leader(group_id))
            return None if found is None else found.value

        return self._later(leader)

    def stand_down_group_leader(self, group_id: Names) -> bool:
        """Lead a group no longer; return whether this coordinator did."""
        leader = self._leader(group_id)
        with translated():
            done = self._txn([leased(leader) == self._alive().lease], [delete(leader)])
        return done.succeeded

    def unwatch_elected_as_leader(self, group_id: bytes, callback: Any) -> None:
        """Stop calling a function; where it was the last one, stand down as well."""
        super().unwatch_elected_as_leader(group_id, callback)
        if group_id not in self._hooks_elected_leader:
            self.stand_down_group_leader(group_id)

    # Locks

    def get_lock(self, name: Names) -> StoreLock:
        """Return a lock; nothing is taken yet."""
        binary = _binary(name)
        lock = StoreLock(binary, self._key(b"locks", binary) + b"/", self._alive)
        self._locks.add(lock)
        return lock

    # Keys

    def _key(self, kind: bytes, *names: Names) -> bytes:
        return b"/".join([self._namespace, kind, *(_quoted(name) for name in names)])

    def _group(self, group_id: Names) -> bytes:
        return self._key(b"groups", group_id)

    def _members(self, group_id: Names) -> bytes:
        return self._key(b"members", group_id) + b"/"

    def _member(self, group_id: Names, member_id: Names) -> bytes:
        return self._key(b"members", group_id, member_id)

    def _leader(self, group_id: Names) -> bytes:
        return self._key(b"leaders", group_id)

    def _items_of(self, group_id: Names) -> list[tuple[bytes, KeyValue]]:
        kv, prefix = self._alive().kv, self._members(group_id)
        if kv.get(self._group(group_id)) is None:
            raise tooz.GroupNotCreated(group_id)
        return [(_unquoted(item.key, prefix), item) for item in kv.range(prefix=prefix).items]

    def _item_of(self, group_id: Names, member_id: Names) -> KeyValue:
        group, member = self._group(group_id), self._member(group_id, member_id)
        done = self._txn([exists(member)], [get(member)], [get(group)])
        if not done.succeeded:
            self._refuse_member(done, group_id, member_id)
        found = done.results[0]
        assert isinstance(found, Found)
        return found.items[0]

    def _txn(
        self, when: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> TxnDone:
        return self._alive().kv.txn(when, then, otherwise)

    def _later(self, operation: Callable[[], T]) -> tooz.CoordinatorResult[T]:
        def run() -> T:
            with translated():
                return operation()

        return tooz.CoordinatorResult(self._executor.submit(run))

    @staticmethod
    def _require_group(found: object, group_id: Names) -> None:
        if isinstance(found, Found) and not found.items:
            raise tooz.GroupNotCreated(group_id)

    def _refuse_member(self, done: TxnDone, group_id: Names, member_id: Names) -> NoReturn:
        self._require_group(done.results[0], group_id)
        raise tooz.MemberNotJoined(group_id, member_id)


def _where(parsed_url: Any) -> Where:
    if parsed_url.netloc:
        return str(parsed_url.netloc)
    if parsed_url.path.endswith(".toml"):
        return Path(parsed_url.path)
    raise ToozError("the URL names no cluster: viewstamp://HOST:PORT or viewstamp:///PATH/cluster.toml")


def _seconds(options: dict[str, Any], name: str, default: float) -> float:
    text = options.get(name, default)
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ToozError(f"{name} is a number of seconds, not {text!r}")
    return seconds


def _binary(name: Names) -> bytes:
    binary: bytes = to_binary(name, "utf-8")
    return binary


def _quoted(name: Names) -> bytes:
    return quote_from_bytes(_binary(name), safe="").encode()


def _unquoted(key: bytes, prefix: bytes) -> bytes:
    return unquote_to_bytes(key[len(prefix) :])
