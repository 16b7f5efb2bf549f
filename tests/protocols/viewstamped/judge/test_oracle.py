"""The judge itself: it must see what it claims to see, and describe every message."""

from random import Random

import pytest

from tests.protocols.viewstamped.harness import cluster_of
from tests.protocols.viewstamped.test_messages import EXAMPLES, GROUP
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.protocols.replication.log import COMMAND, EntryRecord
from viewstamp.protocols.viewstamped.journal import (
    ENCODER,
    AcceptedValue,
    Decided,
    Promised,
    Record,
    Replay,
)
from viewstamp.protocols.viewstamped.judge.oracle import ViewstampedOracle
from viewstamp.protocols.viewstamped.membership import Member, Membership, first_view_of, successor
from viewstamp.protocols.viewstamped.messages import (
    Accept,
    Accepted,
    Appended,
    Ballot,
    Ping,
    Prepare,
    Prepared,
    Probed,
)

ONE, TWO = NodeId(1), NodeId(2)
FIRST = first_view_of(Member(ONE, GROUP))
BALLOT = Ballot(3, ONE)


def disk_of(*records: Record) -> Replay:
    disk = ViewstampedOracle((ONE,)).make_image()
    disk.write(PersistSeq(1), [ENCODER.encode(record) for record in records])
    return disk


def entry(seqno: int) -> EntryRecord:
    return EntryRecord(View(1), Seqno(seqno), COMMAND, b"x")


def prepared(ballot: Ballot) -> Prepared:
    return Prepared(GROUP, View(2), ballot, ballot, None, None, False)


def second() -> Membership:
    following = successor(FIRST, (*FIRST.members, Member(TWO, Incarnation(2))), synchronised=True)
    assert following is not None
    return following


@pytest.mark.parametrize(
    "message",
    [
        prepared(BALLOT),
        Prepare(GROUP, View(2), BALLOT),
        Accept(GROUP, View(2), BALLOT, FIRST),
        Accepted(GROUP, View(2), BALLOT, BALLOT),
        Appended(GROUP, View(1), Viewstamp(View(1), Seqno(2))),
        Appended(GROUP, View(2), Viewstamp(View(1), Seqno(1))),
        Probed(GROUP, View(2), 1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_promise_is_broken_when_the_disk_does_not_hold_it(message: object) -> None:
    oracle = ViewstampedOracle((ONE,))
    disk = disk_of(Decided(FIRST), Promised(View(2), Ballot(2, ONE)), entry(1))
    assert oracle.broken_promise(ONE, message, disk) is not None


def test_a_promise_is_kept_when_the_disk_holds_it() -> None:
    oracle = ViewstampedOracle((ONE,))
    disk = disk_of(Decided(FIRST), AcceptedValue(View(2), BALLOT, second()), entry(1))
    for message in (
        prepared(BALLOT),
        Accepted(GROUP, View(2), BALLOT, BALLOT),
        Appended(GROUP, View(1), Viewstamp(View(1), Seqno(1))),
        Probed(GROUP, View(1), 1),
        Ping(GROUP, View(1), GROUP),
    ):
        assert oracle.broken_promise(ONE, message, disk) is None


def test_an_acceptance_is_broken_when_only_the_promise_is_on_disk() -> None:
    disk = disk_of(Decided(FIRST), Promised(View(2), BALLOT))
    broken = ViewstampedOracle((ONE,)).broken_promise(ONE, Accepted(GROUP, View(2), BALLOT, BALLOT), disk)
    assert broken is not None


def test_a_promise_is_broken_when_a_higher_one_was_given_in_the_same_instance() -> None:
    oracle = ViewstampedOracle((ONE,))
    disk = disk_of(Decided(FIRST), Promised(View(2), Ballot(9, ONE)))
    assert oracle.broken_promise(ONE, prepared(Ballot(9, ONE)), disk) is None
    broken = oracle.broken_promise(ONE, prepared(Ballot(4, ONE)), disk)
    assert broken is not None
    assert "once" in broken


def test_an_entry_is_committed_when_every_member_of_a_view_holds_it() -> None:
    oracle = ViewstampedOracle((ONE, TWO))
    here = Viewstamp(View(2), Seqno(1))
    holding = EntryRecord(View(2), Seqno(1), COMMAND, b"x")
    full = disk_of(Decided(FIRST), Decided(second()), holding)
    empty = disk_of(Decided(FIRST), Decided(second()))
    assert oracle.committed_by(here, {ONE: full, TWO: full})
    assert not oracle.committed_by(here, {ONE: full, TWO: empty})
    assert not oracle.committed_by(here, {ONE: full})
    assert not oracle.committed_by(here, {})


def test_two_memberships_of_one_view_are_seen() -> None:
    cluster = cluster_of(1, 2, 3)
    core = cluster.core(2)
    strange = successor(core.views.history[1], core.views.history[1].members, synchronised=True)
    assert strange is not None
    core.views.history[2] = strange
    cluster.oracle.forget(NodeId(2))
    with pytest.raises(InvariantViolated, match="I24"):
        cluster.oracle.check_step(NodeId(2), core)


def test_a_primary_that_was_not_in_sync_is_seen() -> None:
    cluster = cluster_of(1, 2, 3)
    core = cluster.core(2)
    current = core.views.history[2]
    joiner = Member(NodeId(9), Incarnation(9))
    strange = Membership(View(4), (*current.members[1:], joiner), (NodeId(9),), NodeId(9))
    core.views.history.append(strange)
    with pytest.raises(InvariantViolated, match="I25"):
        cluster.oracle.check_step(NodeId(2), core)


@pytest.mark.parametrize("what", ["committed", "applied", "view", "promise"])
def test_a_position_that_goes_back_is_seen(what: str) -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    core = cluster.core(1)
    match what:
        case "committed":
            core.positions.committed = Seqno(core.positions.committed - 1)
        case "applied":
            core.positions.applied = Seqno(core.positions.applied - 1)
        case "view":
            core.views.view = View(core.views.view - 1)
        case _:
            core.views.acceptor.promised = Ballot(5, ONE)
            cluster.oracle.check_step(ONE, core)
            core.views.acceptor.promised = Ballot(4, ONE)
    with pytest.raises(InvariantViolated, match="I8"):
        cluster.oracle.check_step(ONE, core)


def test_positions_out_of_order_are_seen() -> None:
    cluster = cluster_of(1, 2)
    core = cluster.core(1)
    core.positions.applied = Seqno(core.positions.committed + 1)
    with pytest.raises(InvariantViolated, match="I9"):
        cluster.oracle.check_node(core)


def test_positions_may_go_back_when_the_node_crashed() -> None:
    cluster = cluster_of(1, 2)
    core = cluster.core(1)
    cluster.oracle.forget(ONE)
    core.positions.committed = core.positions.applied = Seqno(core.positions.committed - 1)
    cluster.oracle.check_step(ONE, core)


def test_every_message_is_described_in_a_line_of_its_own() -> None:
    lines = [ViewstampedOracle((ONE,)).describe(message) for message in EXAMPLES]
    assert len(set(lines)) == len(lines)
    assert not any("unknown" in line or "\n" in line or len(line) > 100 for line in lines)
    assert ViewstampedOracle((ONE,)).describe(Random(1)) == "unknown Random"
