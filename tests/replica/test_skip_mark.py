"""Entries that cannot be executed, and the skip marks that take their place."""

import msgspec
import pytest

from tests.replica.fakes import CLIENT, HERE, NODE, Bench, Counter, call, lines, replies, submit
from viewstamp.core.errors import EntryNotExecutable
from viewstamp.core.ids import Instant, Seqno, View, Viewstamp
from viewstamp.core.messages import RESULT, SKIPPED, OpenSession, encode_message
from viewstamp.replica.batches import encode_batch
from viewstamp.replica.client.calls import Call
from viewstamp.replica.client.failures import without_result
from viewstamp.replica.events import CallId, Failed, Halt
from viewstamp.replica.skip_mark import PREFIX, digest_of, make_skip_mark, read_skip_mark

POISON = b"\xff not a batch"


def entry_with(*messages: bytes) -> bytes:
    return encode_batch(0, (0, 0), list(messages))


def test_a_replica_halts_with_a_way_on_when_an_entry_is_not_readable() -> None:
    bench = Bench()
    (halt,) = bench.feed(bench.core.entry(POISON))
    assert isinstance(halt, Halt)
    assert halt.cause == "not executable"
    assert (
        f"node {NODE} cannot execute the committed entry 1.1: an entry of the log is not a batch"
        in halt.reason
    )
    assert "No data is lost" in halt.reason
    assert "Move no data directory away" in halt.reason
    assert "viewstamp journal show DIR --at 1.1" in halt.reason
    assert "viewstamp journal skip DIR... --at 1.1" in halt.reason
    assert bench.replica.machine.__class__ is Counter


def test_an_entry_whose_application_fails_ends_the_node_with_its_viewstamp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    session = bench.open()

    def fail(*_: object) -> None:
        raise RuntimeError("the machine is broken")

    monkeypatch.setattr("viewstamp.replica.replicated_state.ReplicatedState._execute", fail)
    with pytest.raises(
        EntryNotExecutable, match=r"committed entry 1\.2: RuntimeError: the machine is broken"
    ):
        bench.do(submit(session, (1, call("add", 1, ""))))


def test_a_broken_invariant_stays_one_and_its_traceback_names_the_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()

    def fail(*_: object) -> None:
        raise AssertionError("broken")

    monkeypatch.setattr("viewstamp.replica.replicated_state.ReplicatedState._execute", fail)
    with pytest.raises(AssertionError, match="broken") as raised:
        bench.do(OpenSession(CLIENT))
    (note,) = raised.value.__notes__
    assert "cannot execute the committed entry 1.1" in note


def test_a_mark_takes_the_place_of_an_unreadable_entry() -> None:
    bench = Bench()
    session = bench.open()
    assert bench.feed(bench.core.entry(make_skip_mark(POISON))) == []
    assert bench.replica.halted is None
    assert bench.replica.applied == Viewstamp(View(1), Seqno(2))
    assert lines(bench.do(submit(session, (1, call("add", 5, ""))))) == [(1, RESULT, 5)]


def test_a_call_in_a_skipped_entry_is_answered_as_skipped_and_never_executed() -> None:
    bench = Bench()
    session = bench.open()
    message = submit(session, (1, call("add", 5, "")), (2, call("add", 6, "")))
    bench.feed(bench.core.entry(make_skip_mark(entry_with(encode_message(message)))))
    for _ in range(2):
        answered = lines(bench.do(message))
        assert [(sequence, kind) for sequence, kind, _ in answered] == [(1, SKIPPED), (2, SKIPPED)]
        assert "not executed: an operator skipped" in answered[0][2]
    assert lines(bench.do(submit(session, (3, call("add", 7, ""))))) == [(3, RESULT, 7)]


def test_a_client_that_waits_is_told_when_the_mark_is_applied() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.holding = True
    message = submit(session, (1, call("add", 5, "")))
    bench.do(message)
    bench.core.holding = False
    effects = bench.feed(bench.core.entry(make_skip_mark(bench.core.held[0])))
    ((sequence, kind, _),) = lines(replies(effects))
    assert (sequence, kind) == (1, SKIPPED)


def test_a_result_that_is_known_is_kept_when_a_later_copy_of_its_call_is_skipped() -> None:
    bench = Bench()
    session = bench.open()
    message = submit(session, (1, call("add", 5, "")))
    bench.do(message)
    bench.feed(bench.core.entry(make_skip_mark(entry_with(encode_message(message)))))
    assert lines(bench.do(message)) == [(1, RESULT, 5)]


def test_a_replica_that_executed_the_entry_differs_from_one_that_skipped_it() -> None:
    executed, skipped = Bench(), Bench()
    for bench in (executed, skipped):
        bench.open()
    batch = entry_with(encode_message(OpenSession(99)))
    executed.feed(executed.core.entry(batch))
    skipped.feed(skipped.core.entry(make_skip_mark(batch)))
    assert executed.replica.digest != skipped.replica.digest


def test_a_snapshot_holds_what_the_mark_did() -> None:
    bench = Bench()
    session = bench.open()
    message = submit(session, (1, call("add", 5, "")))
    bench.feed(bench.core.entry(make_skip_mark(entry_with(encode_message(message)))))
    again = Bench(snapshot=bench.save())
    assert again.replica.digest == bench.replica.digest
    ((_, kind, _),) = lines(again.do(message, HERE))
    assert kind == SKIPPED


def test_a_mark_depends_on_the_entry_alone_and_names_it() -> None:
    batch = entry_with(
        encode_message(submit(7, (1, call("add", 5, "")))), encode_message(OpenSession(CLIENT))
    )
    mark = read_skip_mark(make_skip_mark(batch))
    assert mark is not None
    assert mark.digest == digest_of(batch)
    assert [(each.client, each.session, len(each.calls)) for each in mark.skipped] == [(CLIENT, 7, 1)]
    assert make_skip_mark(batch) == make_skip_mark(bytes(bytearray(batch)))


@pytest.mark.parametrize("data", [POISON, entry_with(), PREFIX, msgspec.msgpack.encode(["skipped", 1, []])])
def test_what_is_not_a_mark_is_not_taken_for_one(data: bytes) -> None:
    assert read_skip_mark(data) is None


def test_a_client_takes_a_skipped_call_for_not_executed() -> None:
    command = Call(CallId(1), "command", b"", Instant(0))
    outcome = without_result(command, SKIPPED, msgspec.Raw(msgspec.msgpack.encode("an operator skipped it")))
    assert outcome == Failed("not_executed", "an operator skipped it")
