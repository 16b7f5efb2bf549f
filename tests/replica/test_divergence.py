"""A replica whose state differs is found and stops (docs/faults.md#i28)."""

from tests.machine.outside import thrown
from tests.replica.fakes import HERE, NODE, OTHER, Bench, call, lines, submit
from viewstamp.core.effects import Apply, Entry
from viewstamp.core.ids import Instant, Seqno, View, Viewstamp
from viewstamp.core.messages import NO_SESSION, AskStatus, StatusReply
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.events import Halt
from viewstamp.replica.replicated_state import DIGESTS_KEPT, DigestChain


class ByIdentity(StateMachine):
    """Leaks what differs between processes, as `id()`, a set's order or `hash()` would."""

    total: int = 0

    @command
    def draw(self) -> int:
        return thrown()

    @command
    def add(self) -> int:
        self.total += 1
        return self.total


def _replicate(leader: Bench, follower: Bench) -> list[Halt]:
    """Apply at the follower what the leader applied since."""
    applied = leader.core.held
    effects = []
    for data in applied:
        where = Viewstamp(View(1), Seqno(leader.replica.applied.seqno + 1))
        entry = Apply(Entry(where, data))
        leader.feed(entry)
        effects += follower.feed(entry)
    leader.core.held = []
    return [effect for effect in effects if isinstance(effect, Halt)]


def _pair(machine: type[StateMachine]) -> tuple[Bench, Bench]:
    leader, follower = Bench(machine), Bench(machine)
    leader.core.holding = True
    follower.core.leader, follower.core.accepting = OTHER, False
    return leader, follower


def test_the_replica_that_differs_halts_when_results_depend_on_the_process() -> None:
    leader, follower = _pair(ByIdentity)
    leader.do(submit(NO_SESSION, (1, call("draw"))))
    assert _replicate(leader, follower) == [], "the leader says its digest with a later entry"
    leader.do(submit(NO_SESSION, (2, call("add"))))
    (halt,) = _replicate(leader, follower)
    assert "up to entry 1 differ" in halt.reason
    assert f"node {NODE}" in halt.reason
    assert "if the others run another class, start it again with theirs" in halt.reason
    assert "only while a majority of the members serves without it" in halt.reason
    assert follower.replica.halted == halt.reason
    assert leader.replica.halted is None


def test_nobody_halts_when_the_machine_is_deterministic() -> None:
    leader, follower = _pair(ByIdentity)
    for number in range(1, 20):
        leader.do(submit(NO_SESSION, (number, call("add"))))
        assert _replicate(leader, follower) == []
    assert follower.replica.digest == leader.replica.digest


def test_a_halted_replica_says_nothing_more_but_its_status() -> None:
    leader, follower = _pair(ByIdentity)
    for method in ("draw", "add"):
        leader.do(submit(NO_SESSION, (1, call(method))))
        _replicate(leader, follower)
    assert follower.do(submit(NO_SESSION, (1, call("add")))) == []
    assert follower.do(AskStatus(1), HERE) == []
    assert follower.replica.deadline is None
    assert "differ" in follower.replica.status(Instant(0)).waiting_for


def test_a_replica_halts_when_an_entry_is_not_a_batch() -> None:
    bench = Bench()
    (halt,) = bench.feed(Apply(Entry(Viewstamp(View(1), Seqno(1)), b"\xc1")))
    assert isinstance(halt, Halt)
    assert "not a batch" in halt.reason


def test_the_status_says_nothing_when_nothing_is_wrong() -> None:
    bench = Bench()
    (reply,) = bench.do(AskStatus(5))
    assert isinstance(reply, StatusReply)
    assert (reply.request, reply.status.waiting_for) == (5, "")
    assert lines([reply]) == []


def test_positions_are_forgotten_when_there_are_too_many() -> None:
    chain = DigestChain(Seqno(0), 0)
    for number in range(1, DIGESTS_KEPT + 10):
        chain.extend(Seqno(number), [bytes([number % 256])])
    assert not chain.contradicts((5, 12345)), "too long ago to know"
    assert chain.contradicts((DIGESTS_KEPT, 12345))
    assert not chain.contradicts(chain.position)


def test_the_digest_depends_on_the_order_when_results_are_swapped() -> None:
    one, two = DigestChain(Seqno(0), 0), DigestChain(Seqno(0), 0)
    for chain, outcomes in ((one, [b"a", b"b"]), (two, [b"b", b"a"])):
        chain.extend(Seqno(1), outcomes)
    assert one.digest != two.digest


def test_the_digest_depends_on_every_earlier_entry_when_the_last_one_is_equal() -> None:
    one, two = DigestChain(Seqno(0), 0), DigestChain(Seqno(0), 0)
    for chain, first in ((one, b"a"), (two, b"b")):
        chain.extend(Seqno(1), [first])
        chain.extend(Seqno(2), [b"same"])
    assert one.digest != two.digest
