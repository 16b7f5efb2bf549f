"""Migrations that do something else on each replica are found at the entry that raises the version."""

from tests.evolution.group import Group
from viewstamp.core.effects import Send
from viewstamp.core.ids import NodeId
from viewstamp.machine.evolution import migration
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.divergence import peer_event
from viewstamp.replica.events import DigestVote


class Before(StateMachine):
    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


def after(stamp: int) -> type[StateMachine]:
    """Return the next version, whose migration writes this, as it would the time of a clock."""

    class After(StateMachine):
        version = 2
        total: int = 0
        stamp: int = 0

        @command
        def add(self, amount: int) -> int:
            self.total += amount
            return self.total

        @migration(to=2)
        def _write_stamp(self) -> None:
            self.stamp = stamp

    return After


def finalized(*stamps: int) -> Group:
    group = Group(Before, Before, Before)
    group.call("add", 3)
    for node, stamp in enumerate(stamps, 1):
        group.restart(node, after(stamp))
    assert group.finalize() is None
    settle(group)
    return group


def settle(group: Group) -> None:
    """Deliver what the replicas say of their digests until nothing is left to be said."""
    done = dict.fromkeys(group.benches, 0)
    while True:
        votes: list[tuple[NodeId, Send]] = []
        for node, bench in group.benches.items():
            votes += [(node, one) for one in bench.seen[done[node] :] if isinstance(one, Send)]
            done[node] = len(bench.seen)
        votes = [(node, one) for node, one in votes if isinstance(one.message, DigestVote)]
        if not votes:
            return
        for source, vote in votes:
            group.benches[vote.to].step(peer_event(source, vote.message))


def test_all_doubt_at_once_when_a_migration_differs_on_each() -> None:
    group = finalized(1, 2, 3)
    for bench in group.benches.values():
        assert "no digest has a majority" in bench.replica.status(bench.replica._now).waiting_for


def test_the_odd_one_stops_at_once_when_a_migration_differs_on_one() -> None:
    group = finalized(1, 1, 2)
    halted = {node for node, bench in group.benches.items() if bench.replica.halted is not None}
    assert halted == {3}


def test_nobody_doubts_when_a_migration_is_the_same_on_all() -> None:
    group = finalized(1, 1, 1)
    group.require_equal()
    assert group.call("add", 1)[1] == 4
