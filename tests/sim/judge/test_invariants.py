"""Every invariant is shown to fire on a planted violation of itself, and to keep quiet without one."""

from collections.abc import Callable

import msgspec
import pytest

from tests.sim.fakes import MEMBERS, RAFT_LIKE, FakeCore, FakeImage, FakeOracle, entry, stamp
from viewstamp.core.effects import Answer, Apply, Effect, Restore, Send
from viewstamp.core.events import Event, Queried, ReadToken, Woke
from viewstamp.core.ids import Instant, NodeId, PersistSeq, View, fencing_token
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import RESULT, Results, Submit
from viewstamp.core.protocol import Core, Guarantees
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.sim.judge.invariants import ALL
from viewstamp.sim.judge.judge import Judge


class Stage:
    """A cluster of fakes under a real judge."""

    def __init__(self, guarantees: Guarantees = RAFT_LIKE) -> None:
        self.oracle = FakeOracle()
        self.judge = Judge(MEMBERS, self.oracle, guarantees)
        self.cores = {node: FakeCore() for node in MEMBERS}
        self.watched: dict[NodeId, Core] = {}
        for node in MEMBERS:
            self.judge.recovered(node, FakeImage(), lost=False)
            self.watched[node] = self.judge.watch(node, self.cores[node])

    def image(self, node: int) -> FakeImage:
        image = self.judge.ghosts.nodes[NodeId(node)].image
        assert isinstance(image, FakeImage)
        return image

    def step(self, node: int, *effects: Effect, event: Event | None = None) -> None:
        self.cores[NodeId(node)].effects = list(effects)
        self.watched[NodeId(node)].step(event or Woke(), Instant(0))

    def write(self, node: int, *entries: object) -> None:
        self.image(node).put(*entries)  # type: ignore[arg-type]
        self.judge.wrote(NodeId(node), [(PersistSeq(1), (b"",))])

    def commit(self, view: int, seqno: int, data: bytes = b"x", leader: int = 0) -> None:
        """Let a majority write an entry and the leader apply it."""
        for node in (0, 1):
            self.write(node, entry(view, seqno, data))
        self.lead(leader, view)
        self.step(leader, Apply(entry(view, seqno, data)))

    def lead(self, node: int, view: int) -> None:
        """Let a node's core say that it leads this view, from its next step on."""
        self.cores[NodeId(node)].leader = NodeId(node)
        self.cores[NodeId(node)].view = View(view)

    def restart(self, node: int, image: FakeImage, *, lost: bool = False, written: int = 1) -> None:
        self.judge.crashed(NodeId(node))
        self.judge.recovered(NodeId(node), image, lost=lost, written=PersistSeq(written))
        self.cores[NodeId(node)] = FakeCore()
        self.watched[NodeId(node)] = self.judge.watch(NodeId(node), self.cores[NodeId(node)])

    def respond(self, node: int, *, position: int, sequence: int = 1, payload: bytes = b"\x01") -> None:
        results = [(sequence, RESULT, msgspec.Raw(payload))]
        self.judge.responded(NodeId(node), Results(7, fencing_token(position, 0), results))  # type: ignore[arg-type]


def two_leaders_of_one_view(stage: Stage) -> None:
    stage.cores[NodeId(0)].leader = NodeId(0)
    stage.step(0)
    stage.cores[NodeId(1)].leader = NodeId(1)
    stage.step(1)


def different_logs_with_one_end(stage: Stage) -> None:
    stage.write(0, entry(1, 1, b"a"), entry(1, 2, b"c"))
    stage.write(1, entry(1, 1, b"b"), entry(1, 2, b"c"))


def log_with_a_hole(stage: Stage) -> None:
    stage.write(0, entry(1, 2))


def leader_without_a_committed_entry(stage: Stage) -> None:
    stage.commit(1, 1)
    stage.lead(2, view=2)
    stage.step(2)


def different_entry_applied(stage: Stage) -> None:
    stage.commit(1, 1, b"a")
    stage.step(2, Apply(entry(1, 1, b"b")))


def entry_applied_twice(stage: Stage) -> None:
    stage.commit(1, 1)
    stage.step(0, Apply(entry(1, 1)))


def snapshot_of_nothing_committed(stage: Stage) -> None:
    stage.step(0, Restore(BytesSnapshot(stamp(1, 5), b"", b"state")))


def snapshot_that_goes_back(stage: Stage) -> None:
    stage.commit(1, 1)
    stage.commit(1, 2)
    stage.step(0, Restore(BytesSnapshot(stamp(1, 1), b"", b"state")))


def commit_on_one_disk(stage: Stage) -> None:
    stage.write(0, entry(1, 1))
    stage.step(0, Apply(entry(1, 1)))


def committed_entry_overwritten(stage: Stage) -> None:
    stage.commit(1, 1)
    stage.commit(1, 2)
    stage.write(1, entry(2, 2))


def committed_entry_gone_after_a_restart(stage: Stage) -> None:
    stage.commit(1, 1)
    stage.commit(1, 2)
    image = FakeImage()
    image.put(entry(1, 1))
    stage.restart(1, image)


def acknowledged_tail_gone_after_a_restart(stage: Stage) -> None:
    stage.write(2, entry(1, 1))
    stage.restart(2, FakeImage(), written=0)


def second_vote_in_one_view(stage: Stage) -> None:
    stage.image(0).view = View(3)
    stage.image(0).promises = {"vote": NodeId(1)}
    stage.write(0)
    stage.image(0).promises = {"vote": NodeId(2)}
    stage.write(0)


def second_vote_after_the_disk_was_lost(stage: Stage) -> None:
    stage.image(0).view = View(3)
    stage.image(0).promises = {"vote": NodeId(1)}
    stage.write(0)
    stage.restart(0, FakeImage(), lost=True)
    stage.image(0).view = View(3)
    stage.image(0).promises = {"vote": NodeId(2)}
    stage.write(0)


def durable_view_that_goes_back(stage: Stage) -> None:
    stage.image(0).view = View(3)
    stage.write(0)
    stage.restart(0, FakeImage())


def view_that_goes_back(stage: Stage) -> None:
    stage.cores[NodeId(0)].view = View(4)
    stage.step(0)
    stage.cores[NodeId(0)].view = View(3)
    stage.step(0)


def applied_before_committed(stage: Stage) -> None:
    stage.oracle.orderly = False
    stage.step(0)


def commit_of_an_earlier_view_by_counting(stage: Stage) -> None:
    for node in (0, 1):
        stage.write(node, entry(1, 1))
    stage.lead(0, view=2)
    stage.step(0, Apply(entry(1, 1)))


def promise_that_is_not_durable(stage: Stage) -> None:
    stage.oracle.broken = "the vote for node 1"
    stage.step(0, Send(NodeId(1), "vote"))


def answer_from_an_uncommitted_position(stage: Stage) -> None:
    stage.respond(0, position=1)


def two_snapshots_of_one_place(stage: Stage) -> None:
    stage.commit(1, 1)
    for node, body in ((0, b"one"), (1, b"another")):
        stage.judge.saved(NodeId(node), BytesSnapshot(stamp(1, 1), b"", body).meta)


def read_from_an_old_state(stage: Stage) -> None:
    stage.commit(1, 1)
    stage.step(2, event=Queried(ReadToken(1)))
    stage.step(2, Answer(ReadToken(1)))


def read_that_nobody_asked(stage: Stage) -> None:
    stage.step(0, Answer(ReadToken(1)))


def second_result_of_one_command(stage: Stage) -> None:
    stage.commit(1, 1)
    stage.judge.requested(NodeId(0), Submit(7, 1, 0, [(1, msgspec.Raw(b"\x90"))]))
    stage.respond(0, position=1, payload=b"\x01")
    stage.respond(1, position=1, payload=b"\x02")


def states_that_differ(stage: Stage) -> None:
    stage.judge.state(NodeId(0), stamp(1, 1), 1)
    stage.judge.state(NodeId(1), stamp(1, 1), 2)


def commit_that_leaves_a_view_back(stage: Stage) -> None:
    stage.commit(2, 1)
    for node in (0, 1):
        stage.write(node, entry(1, 2))
    stage.cores[NodeId(0)].leader = None
    stage.step(0, Apply(entry(1, 2)))


PLANTED: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("I1 ElectionSafety", two_leaders_of_one_view),
    ("I2 LogMatching", different_logs_with_one_end),
    ("I2 LogMatching", log_with_a_hole),
    ("I3 LeaderCompleteness", leader_without_a_committed_entry),
    ("I4 StateMachineSafety", different_entry_applied),
    ("I27 NoGap", entry_applied_twice),
    ("I4 StateMachineSafety", snapshot_of_nothing_committed),
    ("I4 StateMachineSafety", snapshot_that_goes_back),
    ("I27 NoGap", commit_that_leaves_a_view_back),
    ("I5 CommittedDurable", commit_on_one_disk),
    ("I6 CommittedImmutable", committed_entry_overwritten),
    ("I6 CommittedImmutable", committed_entry_gone_after_a_restart),
    ("I29 RecoverExact", acknowledged_tail_gone_after_a_restart),
    ("I7 VoteOnce", second_vote_in_one_view),
    ("I7 VoteOnce", second_vote_after_the_disk_was_lost),
    ("I7 VoteOnce", durable_view_that_goes_back),
    ("I8 Monotonic", view_that_goes_back),
    ("I9 Ordering", applied_before_committed),
    ("I10 NoPriorTermCommit", commit_of_an_earlier_view_by_counting),
    ("I11 AckDurable", promise_that_is_not_durable),
    ("I11 ReplyCommitted", answer_from_an_uncommitted_position),
    ("I13 SnapshotEquiv", two_snapshots_of_one_place),
    ("I14 ReadIndex", read_from_an_old_state),
    ("I14 ReadIndex", read_that_nobody_asked),
    ("I16 ExactlyOnce", second_result_of_one_command),
    ("I28 BackupPrefix", states_that_differ),
)


@pytest.mark.parametrize(("name", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_invariant_fires_when_it_is_violated(name: str, plant: Callable[[Stage], None]) -> None:
    with pytest.raises(InvariantViolated) as caught:
        plant(Stage())
    assert caught.value.name == name


def test_every_invariant_is_planted_when_it_exists() -> None:
    # Some are planted in tests of their own: `test_view_invariants` and those named here.
    elsewhere = {
        "I12 ConfigSafety", "I5 AckBelieved",  # test_configuration_invariants
        "I13 StageInOrder", "I8 LogTime", "I16 SessionOrder", "I20 Bounded",  # test_replica_invariants
        "I37 RaisedOnce",  # there too
    }  # fmt: skip
    everywhere = {kind.name for kind in ALL if kind.applies(RAFT_LIKE)}
    assert everywhere - elsewhere == {name for name, _ in PLANTED}


def test_invariants_keep_quiet_when_nothing_is_wrong() -> None:
    stage = Stage()
    for seqno in range(1, 6):
        stage.commit(1, seqno)
        stage.step(1, Apply(entry(1, seqno)))
    stage.judge.requested(NodeId(0), Submit(7, 1, 0, [(1, msgspec.Raw(b"\x90"))]))
    stage.respond(0, position=5)
    stage.respond(1, position=5)
    stage.step(1, event=Queried(ReadToken(1)))
    stage.step(1, Answer(ReadToken(1)))
    stage.restart(1, stage.image(1))
    stage.lead(1, view=2)
    stage.step(1)
    assert stage.oracle.forgotten == [NodeId(1)]
    assert stage.judge.ghosts.committed.length == 5


def test_new_leader_may_apply_what_earlier_leaders_committed() -> None:
    stage = Stage()
    for node in (0, 1):
        stage.write(node, entry(1, 1))
    stage.cores[NodeId(0)].committed = 1
    stage.lead(0, view=2)
    stage.step(0)
    stage.step(0, Apply(entry(1, 1)))
    assert stage.judge.ghosts.committed.length == 1


def test_late_winner_of_an_old_view_is_not_blamed_when_later_views_committed() -> None:
    stage = Stage()
    stage.commit(3, 1)
    stage.lead(2, view=2)
    stage.step(2)
    assert stage.judge.rare["two leaders at once"] == 1


def test_late_winner_is_not_blamed_when_a_later_view_committed_an_entry_of_an_earlier_one() -> None:
    stage = Stage()
    for node in (0, 1):
        stage.write(node, entry(1, 1))
        stage.write(node, entry(3, 2))
    stage.lead(0, view=3)
    stage.step(0, Apply(entry(1, 1)), Apply(entry(3, 2)))
    stage.lead(2, view=2)
    stage.step(2)
    assert stage.judge.rare["two leaders at once"] == 1


def test_late_winner_is_blamed_when_what_it_lacks_was_committed_before_it_and_first_seen_after() -> None:
    stage = Stage()
    for node in (0, 1):
        for seqno in (1, 2):
            stage.write(node, entry(1, seqno))
    stage.cores[NodeId(1)].view = View(3)
    stage.step(1, Apply(entry(1, 1)))
    stage.lead(0, view=1)
    stage.step(0, Apply(entry(1, 1)), Apply(entry(1, 2)))
    stage.lead(2, view=2)
    with pytest.raises(InvariantViolated, match=r"I3 LeaderCompleteness: .* entry 1\.2"):
        stage.step(2)


def test_commit_is_justified_when_a_disk_was_lost_after_it_had_acknowledged() -> None:
    stage = Stage()
    for node in (0, 1):
        stage.write(node, entry(1, 1))
    stage.restart(1, FakeImage(), lost=True)
    stage.step(0, Apply(entry(1, 1)))
    assert stage.judge.ghosts.committed.length == 1


def test_commitment_stands_when_one_disk_was_lost_after_it_acknowledged_and_another_long_before() -> None:
    stage = Stage()
    stage.restart(1, FakeImage(), lost=True)
    stage.write(1, entry(1, 1))
    stage.write(2, entry(1, 1))
    stage.restart(2, FakeImage(), lost=True)
    stage.step(0, Apply(entry(1, 1)))


def test_commitment_stands_when_the_disk_that_acknowledged_was_lost_and_the_next_one_too() -> None:
    stage = Stage()
    for node in (0, 1):
        stage.write(node, entry(1, 1))
    stage.restart(1, FakeImage(), lost=True)
    stage.restart(1, FakeImage(), lost=True)
    stage.step(0, Apply(entry(1, 1)))


def test_commitment_falls_when_the_lost_disks_never_held_it() -> None:
    stage = Stage()
    stage.restart(1, FakeImage(), lost=True)
    stage.restart(2, FakeImage(), lost=True)
    stage.write(1, entry(1, 1))
    with pytest.raises(InvariantViolated, match="I5 CommittedDurable"):
        stage.step(0, Apply(entry(1, 1)))
