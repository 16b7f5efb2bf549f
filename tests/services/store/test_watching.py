"""What a watch asks and tells, whatever the servers answer."""

from random import Random
from typing import Any

import msgspec

from tests.services.store.model import Store
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import DENIED, REFUSED, RESULT, AdminReply, Waited
from viewstamp.machine.definition import MachineDefinition
from viewstamp.services.store import CoordinationStore, changes
from viewstamp.services.store.types import Change, Compacted, Event, News, Put, Txn
from viewstamp.services.store.watching import PAUSE_MAX_S, PAUSE_S, Changes, Progress, Resync, Watching

NODES = (NodeId(1), NodeId(2), NodeId(3))
DEFINITION = MachineDefinition.of(CoordinationStore)


def watching(after: int = 0, **options: Any) -> Watching:
    return Watching(b"k", b"l", after=after, prev=False, rng=Random(1), **options)


def answer(value: object, kind: int = RESULT) -> bytes:
    return msgspec.msgpack.encode(Waited(1, kind, msgspec.Raw(msgspec.msgpack.encode(value))))


def change(revision: int, *, more: bool = False) -> Change:
    return Change(revision, [Event(b"k%d" % revision, None)], more)


def told(watch: Watching, value: object) -> list[object]:
    return list(watch.answered(answer(value)).told)


def test_it_tells_each_change_once_and_progress_behind_them() -> None:
    watch = watching()
    assert told(watch, News([change(3), change(5)], 7)) == [
        Changes(3, change(3).events),
        Changes(5, change(5).events),
    ]
    assert watch.after == 7
    # A server that is behind repeats itself: nothing of it is told again, and the cursor stays.
    assert told(watch, News([change(5)], 5)) == [Progress(7)]
    assert watch.after == 7
    assert told(watch, News([], 7)) == []
    assert told(watch, News([], 9)) == [Progress(9)]


def test_a_question_about_the_future_is_told_no_progress() -> None:
    watch = watching(after=100)
    assert told(watch, News([], 100)) == []
    assert told(watch, News([change(90)], 100)) == []
    assert told(watch, News([change(101)], 101)) == [Changes(101, change(101).events)]


def test_parts_of_a_revision_are_asked_for_where_the_last_one_ended() -> None:
    watch = watching()
    assert told(watch, News([change(3, more=True)], 0, 4)) == [Changes(3, change(3).events, more=True)]
    arguments = DEFINITION.decode("query", watch.question().call)
    assert (arguments.watch.after, arguments.watch.skip) == (0, 4)
    assert told(watch, News([Change(3, [])], 3)) == [Changes(3, [])], "the end is told, though it is empty"
    assert told(watch, News([Change(4, [])], 4)) == [Progress(4)], "nothing that no part came before"


def test_it_goes_through_the_servers_and_pauses_when_none_answers() -> None:
    watch = watching()
    assert watch.choose(()) is None
    first = watch.choose(NODES)
    assert first == watch.choose(NODES), "it stays with a server that answers"
    tried = []
    for longest_s in (0.0, 0.0, PAUSE_S, 0.0, 0.0, 2 * PAUSE_S):
        tried.append(watch.choose(NODES))
        assert longest_s / 2 <= watch.failed() <= longest_s
    assert set(tried[:3]) == set(NODES) == set(tried[3:])
    assert watch.choose((NodeId(9),)) == NodeId(9)


def test_it_pauses_after_each_refusal_for_longer_and_longer() -> None:
    watch = watching()
    pauses = []
    for _ in range(12):
        watch.choose(NODES)
        pauses.append(watch.failed(refused=True))
    assert PAUSE_S / 2 <= pauses[0] <= PAUSE_S
    assert PAUSE_MAX_S / 2 <= pauses[-1] <= PAUSE_MAX_S
    assert told(watch, News([], 7)) == [Progress(7)]
    assert watch.failed(refused=True) <= PAUSE_S, "an answer ends the silence"


def test_what_no_server_will_answer_is_handed_on() -> None:
    watch = watching()
    assert watch.answered(answer("not now", REFUSED)).refused == "not now"
    assert watch.answered(msgspec.msgpack.encode(AdminReply(1, None))).refused
    failure = watch.answered(answer("whatever", DENIED)).failure
    assert failure is not None
    assert failure.kind == DENIED
    assert watch.answered(answer(Compacted(5))).must_list
    assert watch.listed(8, []) == Resync(8, [])
    assert watch.after == 8
    part = msgspec.msgpack.decode(watching(part="store").question().call)
    assert part[0] == "store.kv_changes"


def test_a_large_revision_comes_whole_through_fragments(monkeypatch: Any) -> None:
    monkeypatch.setattr(changes, "LOOKED_AT_MAX", 3)
    store, watch = Store(), watching()
    store.do("kv_txn", Txn([], [Put(b"k%d" % number) for number in range(8)]))
    seen: list[bytes] = []
    for _ in range(4):
        arguments = DEFINITION.decode("query", watch.question().call)
        for each in told(watch, store.ask("kv_changes", arguments.watch)):
            if isinstance(each, Changes):
                seen += (event.key for event in each.events)
    assert seen == [b"k%d" % number for number in range(8)]
