"""What is in force, and a replica whose code is too old for an entry (`viewstamp.replica.versions`)."""

from collections.abc import Iterator

import msgspec
import pytest

from tests.replica.fakes import NODE, OTHER, Bench, call, lines, replies, submit
from viewstamp.core.effects import Apply, Capture, Entry, Send
from viewstamp.core.events import Captured, Directed, SnapshotToken, TakeSnapshot, TransferLeadership
from viewstamp.core.ids import LEVEL, ClientAddress, Seqno, View, Viewstamp
from viewstamp.core.messages import AdminReply, AdminRequest, AskStatus, Redirect, StatusReply
from viewstamp.core.snapshots import Versions
from viewstamp.replica.batches import FORMAT
from viewstamp.replica.events import Notice, Save
from viewstamp.replica.versions import LEVEL_OF_DIRECTIVE, may_write

TOO_NEW = msgspec.msgpack.encode((FORMAT, LEVEL + 1, "a shape of tomorrow"))


def at(seqno: int) -> Viewstamp:
    return Viewstamp(View(1), Seqno(seqno))


def waiting() -> Bench:
    """A bench that applied one entry and met one for newer code."""
    bench = Bench()
    bench.do(submit(0, (1, call("add", 5))))
    bench.core.last = at(2)
    bench.feed(Apply(Entry(at(2), TOO_NEW)))
    return bench


def test_a_log_begins_at_the_level_of_the_leader_that_wrote_its_first_entry() -> None:
    bench = Bench()
    assert bench.replica.state.versions is None
    bench.do(submit(0, (1, call("add", 5))))
    assert bench.replica.state.versions == Versions(LEVEL, 1)


def test_a_log_of_the_level_before_stays_at_it_when_newer_code_goes_on() -> None:
    bench = Bench()
    old = msgspec.msgpack.encode((FORMAT, 0, 7, (0, 0), [], []))
    bench.feed(bench.core.entry(old))
    assert bench.replica.state.versions == Versions(0, 1)
    bench.do(submit(0, (1, call("add", 5))))
    assert bench.replica.state.versions == Versions(0, 1), "only an entry that raises it does"


def test_a_replica_waits_and_says_so_when_an_entry_is_for_newer_code() -> None:
    bench = waiting()
    told = [effect.text for effect in bench.seen if isinstance(effect, Notice)]
    assert len(told) == 1
    assert told[0].startswith("waiting for newer code at 1.2: an entry of the log has level 2")
    (status,) = [m.status for m in bench.do(AskStatus(1)) if isinstance(m, StatusReply)]
    assert status.waiting_for == told[0]
    assert bench.replica.halted is None


def test_nothing_is_applied_after_the_entry_that_is_for_newer_code() -> None:
    bench = waiting()
    before = bench.replica.digest
    bench.feed(Apply(Entry(at(3), b"")), Apply(Entry(at(4), TOO_NEW)))
    assert bench.replica.applied == at(1)
    assert bench.replica.digest == before


def test_clients_are_sent_away_when_a_replica_waits() -> None:
    bench = waiting()
    (sent,) = bench.do(submit(0, (2, call("add", 5))))
    assert isinstance(sent, Redirect)
    assert (sent.entered, sent.reason) == (False, "this node needs newer code")
    assert lines(replies(bench.seen)) == [(1, 0, 5)]


def test_the_core_goes_on_when_a_replica_waits() -> None:
    bench = waiting()
    effects = bench.feed(Send(OTHER, "an acknowledgement"))
    assert effects == [Send(OTHER, "an acknowledgement")]


def test_no_snapshot_is_taken_when_a_replica_waits() -> None:
    bench = waiting()
    effects = bench.feed(Capture(SnapshotToken(9), at(2), b"header"))
    assert not [effect for effect in effects if isinstance(effect, Save)]
    assert Captured(SnapshotToken(9), None, reason="this node needs newer code") in bench.core.events


def test_leadership_is_handed_over_again_and_again_when_the_leader_waits() -> None:
    bench = Bench()
    bench.lead(NODE)
    bench.do(submit(0, (1, call("add", 5))))
    bench.core.last = at(2)
    bench.feed(Apply(Entry(at(2), TOO_NEW)))
    for _ in range(20):
        bench.now += 500_000
        bench.wake()
    handed = [event for event in bench.core.events if isinstance(event, Directed)]
    assert 3 <= len(handed) <= 6
    assert {event.directive for event in handed} == {TransferLeadership(None)}


def test_newer_code_goes_on_where_the_older_one_stopped() -> None:
    bench = waiting()
    bench.core.last = at(2)
    assert bench.replica.applied == at(1)
    newer = Bench()
    newer.do(submit(0, (1, call("add", 5))))
    assert newer.replica.digest == bench.replica.digest


@pytest.fixture
def gated() -> Iterator[None]:
    LEVEL_OF_DIRECTIVE[TakeSnapshot] = LEVEL
    yield
    del LEVEL_OF_DIRECTIVE[TakeSnapshot]


@pytest.mark.usefixtures("gated")
def test_a_directive_is_refused_until_its_level_is_in_force() -> None:
    bench = Bench()
    bench.feed(bench.core.entry(msgspec.msgpack.encode((FORMAT, 0, 7, (0, 0), [], []))))
    (refused,) = bench.do(AdminRequest(1, TakeSnapshot()), ClientAddress(3))
    assert isinstance(refused, AdminReply)
    assert refused.refusal is not None
    assert "level 1, and level 0 is in force: run `viewstamp upgrade finalize` first" in refused.refusal


def test_a_new_log_may_write_all_that_this_code_knows() -> None:
    assert may_write(None, LEVEL) is None
    assert may_write(None, LEVEL + 1) is not None
    assert may_write(Versions(0, 1), 0) is None
