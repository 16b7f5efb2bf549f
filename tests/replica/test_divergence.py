"""A replica whose state differs is found and stops (docs/faults.md#i28)."""

from collections.abc import Sequence

import msgspec

from tests.replica.fakes import HERE, Bench, call, lines, submit
from viewstamp.core.effects import Apply, Capture, Entry, LeaderChanged, Send
from viewstamp.core.events import Captured, Directed, PeerUp, SnapshotToken
from viewstamp.core.ids import ORIGIN, Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import NO_SESSION, RESULT, AskStatus, QueryRequest, Redirect, StatusReply
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.replica.digest_chain import DIGESTS_KEPT, DigestChain
from viewstamp.replica.divergence import ASK_AGAIN_US, HAND_OVER_US, HELD_MAX, peer_event
from viewstamp.replica.events import DigestVote, Halt, Notice, Respond, Save
from viewstamp.replica.options import ReplicaOptions

LEADER, FOLLOWER, THIRD = NodeId(1), NodeId(2), NodeId(3)


class Machine(StateMachine):
    """Adds what its class says: nodes with another class differ."""

    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.total += amount + self.extra()
        return self.total

    @command
    def slip(self, amount: int) -> None:
        """Changes the state and says nothing of it."""
        self.total += amount + self.extra()

    @query
    def read(self) -> int:
        return self.total

    @staticmethod
    def extra() -> int:
        return 0


class Odd(Machine):
    @staticmethod
    def extra() -> int:
        return 1


class Odder(Machine):
    @staticmethod
    def extra() -> int:
        return 2


class Group:
    """Some replicas that apply the same entries and hear each other's votes, unless they are down."""

    def __init__(
        self, *classes: type[StateMachine], every: int = 0, down: Sequence[int] = (), last: int = 0
    ) -> None:
        self.members = tuple(NodeId(number) for number in range(1, len(classes) + 1))
        self.down = {NodeId(number) for number in down}
        self.last = ORIGIN
        self.benches = {
            node: Bench(
                machine,
                ReplicaOptions(state_check_every=every),
                node=node,
                members=self.members,
                last=Viewstamp(View(1), Seqno(last)) if last else ORIGIN,
            )
            for node, machine in zip(self.members, classes, strict=True)
        }
        self._seen = dict.fromkeys(self.members, 0)
        for node, bench in self.benches.items():
            bench.core.holding = True
            bench.core.leader, bench.core.accepting = LEADER, node == LEADER

    def enter(self, method: str, *arguments: int) -> bytes:
        """Let the leader propose a call and every replica that is up apply it; return the entry's data."""
        leader = self.benches[LEADER]
        leader.do(submit(NO_SESSION, (self.last.seqno + 1, call(method, *arguments))))
        (data,) = leader.core.held
        leader.core.held = []
        self.apply(data)
        return data

    def apply(self, data: bytes, *, view: int = 1) -> None:
        self.last = Viewstamp(View(view), Seqno(self.last.seqno + 1))
        for node in self.up:
            self.benches[node].feed(Apply(Entry(self.last, data)))
        self.settle()

    def settle(self) -> None:
        """Deliver votes until there is none."""
        while votes := self._take():
            for source, sent in votes:
                if sent.to in self.up:
                    self.benches[sent.to].step(peer_event(source, sent.message))

    def pass_time(self, length_us: int = ASK_AGAIN_US) -> None:
        for node in self.up:
            bench = self.benches[node]
            bench.now += length_us
            bench.wake()
        self.settle()

    @property
    def up(self) -> list[NodeId]:
        return [node for node in self.members if node not in self.down]

    def halted(self) -> dict[int, str]:
        return {node: why for node in self.up if (why := self.benches[node].replica.halted) is not None}

    def doubting(self) -> set[int]:
        return {
            node for node in self.up if self.waiting_for(node) and self.benches[node].replica.halted is None
        }

    def waiting_for(self, node: NodeId) -> str:
        return self.benches[node].replica.status(Instant(0)).waiting_for

    def notices(self, node: NodeId) -> list[str]:
        return [effect.text for effect in self.benches[node].seen if isinstance(effect, Notice)]

    def _take(self) -> list[tuple[NodeId, Send]]:
        taken = []
        for node in self.up:
            seen = self.benches[node].seen
            taken += [
                (node, effect)
                for effect in seen[self._seen[node] :]
                if isinstance(effect, Send) and isinstance(effect.message, DigestVote)
            ]
            self._seen[node] = len(seen)
        return taken


def test_an_odd_follower_stops_and_no_other_when_results_differ() -> None:
    group = Group(Machine, Odd, Machine)
    group.enter("add", 5)
    assert not group.halted(), "the leader says its digest with a later entry"
    group.enter("add", 6)
    halted = group.halted()
    assert set(halted) == {FOLLOWER}
    assert "its results up to entry 1 differ from those of a majority" in halted[FOLLOWER]
    assert "add(amount: int)" in halted[FOLLOWER]
    assert "node 1: " in halted[FOLLOWER]
    assert "if the others run another class, start it again with theirs" in halted[FOLLOWER]
    assert "only while a majority of the members serves without it" in halted[FOLLOWER]
    assert not group.doubting()
    assert any("node 2 differs from a majority" in text for text in group.notices(LEADER))


def test_an_odd_leader_hands_over_and_stops_and_no_other() -> None:
    group = Group(Odd, Machine, Machine)
    group.enter("add", 5)
    group.enter("add", 6)
    leader = group.benches[LEADER]
    assert any(isinstance(event, Directed) for event in leader.core.events), "hand over first"
    assert not group.halted()
    assert "differ from those of a majority" in group.waiting_for(LEADER)
    assert group.doubting() == {LEADER}
    leader.core.leader = FOLLOWER
    leader.feed(LeaderChanged(View(2), FOLLOWER))
    assert set(group.halted()) == {LEADER}


def test_an_odd_leader_stops_when_nobody_takes_over() -> None:
    group = Group(Odd, Machine, Machine)
    group.enter("add", 5)
    group.enter("add", 6)
    group.pass_time(HAND_OVER_US)
    assert set(group.halted()) == {LEADER}


def test_nobody_serves_when_two_differ_and_the_third_is_down() -> None:
    group = Group(Machine, Odd, Machine, down=[3])
    entries = [group.enter("add", 5), group.enter("add", 6)]
    assert not group.halted()
    assert group.doubting() == {LEADER, FOLLOWER}
    assert "node 3: not heard" in group.waiting_for(LEADER)
    (refused,) = group.benches[LEADER].do(submit(NO_SESSION, (9, call("add", 1))))
    assert isinstance(refused, Redirect)
    (refused,) = group.benches[LEADER].do(QueryRequest(5, "linearizable", [(3, raw(call("read")))]))
    assert isinstance(refused, Redirect)
    assert refused.sequences == [3]
    assert group.benches[LEADER].core.held == []
    group.down.clear()
    for seqno, data in enumerate(entries, 1):
        group.benches[THIRD].feed(Apply(Entry(Viewstamp(View(1), Seqno(seqno)), data)))
    group.pass_time()
    assert set(group.halted()) == {FOLLOWER}
    assert not group.doubting()
    assert group.enter("add", 7)


def raw(data: bytes) -> msgspec.Raw:
    return msgspec.Raw(data)


def test_nobody_serves_when_all_three_differ() -> None:
    group = Group(Machine, Odd, Odder)
    group.enter("add", 5)
    group.enter("add", 6)
    group.pass_time()
    assert not group.halted()
    assert group.doubting() == {1, 2, 3}


def test_a_minority_of_five_stops_and_the_others_go_on() -> None:
    group = Group(Machine, Odd, Machine, Odd, Machine)
    group.enter("add", 5)
    group.enter("add", 6)
    assert set(group.halted()) == {2, 4}
    assert not group.doubting()


def test_two_that_agree_are_no_majority_of_five() -> None:
    group = Group(Machine, Odd, Machine, Machine, Machine, down=[4, 5])
    group.enter("add", 5)
    group.enter("add", 6)
    assert not group.halted()
    assert group.doubting() == {1, 2, 3}


def test_answers_are_held_until_the_doubt_ends() -> None:
    group = Group(Machine, Odd, Machine, down=[3])
    group.enter("add", 5)
    leader = group.benches[LEADER]
    for number in (2, 3):
        leader.do(submit(NO_SESSION, (number, call("add", 6))))
    second, third = leader.core.held
    leader.core.held = []
    group.apply(second)
    before = len(leader.seen)
    group.apply(third)
    assert not any(isinstance(effect, Respond) for effect in leader.seen[before:])
    leader.step(
        peer_event(THIRD, DigestVote("results", 1, leader.replica.state.chain.at(1) or 0, True, False, 0))
    )
    held = [effect for effect in leader.seen[before:] if isinstance(effect, Respond)]
    assert [line[:2] for line in lines([effect.message for effect in held])] == [(3, RESULT)]
    assert HELD_MAX > 1


def test_no_log_time_passes_while_nobody_is_served() -> None:
    group = Group(Machine, Odd, Machine, down=[3])
    entries = [group.enter("add", 5), group.enter("add", 6)]
    assert group.doubting() == {LEADER, FOLLOWER}
    group.pass_time(3_600_000_000)
    group.down.clear()
    for seqno, data in enumerate(entries, 1):
        group.benches[THIRD].feed(Apply(Entry(Viewstamp(View(1), Seqno(seqno)), data)))
    group.pass_time()
    assert not group.doubting()
    group.enter("add", 7)
    assert group.benches[LEADER].replica.state.log_time < 3_600_000_000


def test_the_state_is_compared_when_results_say_nothing() -> None:
    group = Group(Machine, Odd, Machine, every=4)
    for _ in range(3):
        group.enter("slip", 5)
    assert not group.halted()
    group.enter("slip", 5)
    halted = group.halted()
    assert set(halted) == {FOLLOWER}
    assert "its state up to entry 4 differ" in halted[FOLLOWER]
    assert "slip(amount: int)" in halted[FOLLOWER]


def test_the_state_is_not_compared_when_the_option_says_so() -> None:
    group = Group(Machine, Odd, Machine, every=0)
    for _ in range(20):
        group.enter("slip", 5)
    assert not group.halted()
    assert not group.doubting()


def test_a_doubt_about_the_state_ends_when_the_third_comes_later() -> None:
    """It has no digest at the entry in question, so the others ask for one at the last entry."""
    group = Group(Machine, Odd, Machine, every=4, down=[3])
    entries = [group.enter("slip", 5) for _ in range(4)]
    assert group.doubting() == {LEADER, FOLLOWER}
    group.down.clear()
    third = group.benches[THIRD]
    third.replica._divergence._every = 1 << 40  # its own checks cost too much
    for seqno, data in enumerate(entries, 1):
        third.feed(Apply(Entry(Viewstamp(View(1), Seqno(seqno)), data)))
    group.pass_time()
    group.pass_time()
    assert set(group.halted()) == {FOLLOWER}
    assert not group.doubting()


def test_states_are_compared_by_what_is_in_force_when_a_class_has_more() -> None:
    class Grown(Machine):
        more: int = 0

        @command
        def slip(self, amount: int) -> None:
            self.total += amount
            self.more += 1

    group = Group(Machine, Grown, Machine, every=2)
    for _ in range(6):
        group.enter("slip", 5)
    assert not group.halted()
    assert not group.doubting()


def _log_of(odd_entries: int, right_entries: int) -> list[bytes]:
    """Return the log of an odd leader, followed by entries of a right one."""
    entries: list[bytes] = []
    for machine, count in ((Odd, odd_entries), (Machine, right_entries)):
        group = Group(machine, machine)
        for data in entries:
            group.apply(data)
        group.benches[LEADER].core.leader = LEADER
        entries += [group.enter("add", 1) for _ in range(count)]
    return entries


def test_a_replay_goes_on_when_a_later_leader_agrees() -> None:
    log = _log_of(3, 2)
    group = Group(Machine, Machine, Machine, last=len(log), down=[2, 3])
    for data in log[:3]:
        group.apply(data)
    assert group.doubting() == {LEADER}
    group.apply(log[3])
    assert not group.doubting()
    assert not group.halted()


def test_all_stop_when_the_class_was_changed_on_all_members() -> None:
    log = _log_of(3, 0)
    group = Group(Machine, Machine, Machine, last=len(log))
    for data in log:
        group.apply(data)
    group.pass_time()
    group.pass_time(HAND_OVER_US)
    assert set(group.halted()) == {1, 2, 3}
    assert "the class was changed on all" in group.halted()[1]


def test_a_single_member_stops_when_its_class_was_changed() -> None:
    log = _log_of(3, 0)
    group = Group(Machine, last=len(log))
    for data in log:
        group.apply(data)
    group.pass_time()
    assert set(group.halted()) == {1}


def test_a_replay_goes_on_when_a_member_that_serves_agrees() -> None:
    log = _log_of(3, 0)
    group = Group(Machine, Machine, Machine, last=len(log), down=[2, 3])
    for data in log:
        group.apply(data)
    assert group.doubting() == {LEADER}
    bench = group.benches[LEADER]
    own = bench.replica.state.chain.at(1)
    assert own is not None
    for source in (FOLLOWER, THIRD):
        bench.step(peer_event(source, DigestVote("results", 1, own, True, False, 0)))
    assert not group.doubting()


def test_a_vote_is_answered_by_the_one_that_is_asked() -> None:
    group = Group(Machine, Machine, Machine)
    group.enter("add", 5)
    bench = group.benches[LEADER]
    digest = bench.replica.state.chain.at(1)
    assert digest is not None
    (sent,) = bench.step(peer_event(THIRD, DigestVote("results", 1, digest, True, True, 0)))
    assert isinstance(sent, Send)
    assert (sent.to, sent.message.digest, sent.message.asks) == (THIRD, digest, False)
    assert bench.step(peer_event(THIRD, DigestVote("results", 99, 1, True, True, 0))) == []


def test_no_snapshot_is_made_when_no_digest_has_a_majority() -> None:
    group = Group(Machine, Odd, Odder, every=1)
    group.enter("slip", 5)
    assert group.doubting() == {1, 2, 3}
    for node in group.up:
        effects = group.benches[node].feed(Capture(SnapshotToken(1), group.last, b"header"))
        assert not [effect for effect in effects if isinstance(effect, Save)], node
        told = group.benches[node].core.events[-1]
        assert told == Captured(SnapshotToken(1), None, "members differ: see the status")
        assert "makes no snapshot" in group.waiting_for(node)
        assert "a-replica-that-differs.md" in group.waiting_for(node)


def test_a_difference_is_found_again_when_all_execute_their_logs_before_they_hear_each_other() -> None:
    group = Group(Machine, Odd, Odder, every=2)
    log = [group.enter("slip", 5), group.enter("slip", 6)]
    again = Group(Machine, Odd, Odder, every=2)
    again.down = set(again.members)
    for number, data in enumerate(log, start=1):
        for bench in again.benches.values():
            bench.feed(Apply(Entry(Viewstamp(View(1), Seqno(number)), data)))
    again._take()
    again.down = set()
    for node, bench in again.benches.items():
        again._seen[node] = len(bench.seen)
    assert not again.doubting(), "what they said was lost"
    for node, bench in again.benches.items():
        for peer in again.members:
            if peer != node:
                bench.step(PeerUp(peer))
    again.settle()
    assert again.doubting() == {1, 2, 3}


def test_nobody_halts_when_the_machine_is_deterministic() -> None:
    group = Group(Machine, Machine, Machine, every=3)
    for number in range(1, 20):
        group.enter("add", number)
    assert not group.halted()
    assert not group.doubting()
    assert [group.notices(node) for node in group.members] == [[], [], []]
    assert len({bench.replica.digest for bench in group.benches.values()}) == 1


def test_a_halted_replica_says_nothing_more_but_its_status() -> None:
    group = Group(Machine, Odd, Machine)
    group.enter("add", 5)
    group.enter("add", 6)
    follower = group.benches[FOLLOWER]
    assert follower.do(submit(NO_SESSION, (1, call("add", 1)))) == []
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
