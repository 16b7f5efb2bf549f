"""Hypothesis drives a fenced cluster over `step`: every event at every moment, every step judged.

What the world asserts (`fenced_world`): one primary an epoch, one history, snapshots equal to it, no promise
that is not on disk, and each node's own orderings. Also here: what a client was told is never lost.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.protocols.primary_backup.fenced_world import FencedWorld
from viewstamp.core.events import PeerDown, PeerUp
from viewstamp.core.ids import NodeId
from viewstamp.protocols.primary_backup import PrimaryBackupOptions
from viewstamp.protocols.primary_backup.state import Role

SIZE = 3
nodes = st.integers(0, SIZE - 1)


class FencedMachine(RuleBasedStateMachine):
    """Three members; at most one of them loses its disk in a run, as a majority of disks must survive."""

    @initialize(limit=st.sampled_from([None, 500]))
    def begin(self, limit: int | None) -> None:
        self.world = FencedWorld(SIZE, options=PrimaryBackupOptions(log_bytes_max=limit))
        self.world.run(50)
        self.commands = 0
        self.token = 0
        self.may_lose = True
        self.acknowledged: list[bytes] = []

    @rule(count=st.integers(1, 30))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.world.letters))):
            self.world.deliver(self.world.letters.popleft())

    @rule(place=st.integers(0, 50))
    def deliver_out_of_order(self, place: int) -> None:
        letters = self.world.letters
        if letters:
            letters.rotate(-(place % len(letters)))
            self.world.deliver(letters.popleft())

    @rule(place=st.integers(0, 50), double=st.booleans())
    def lose_or_double(self, place: int, double: bool) -> None:
        letters = self.world.letters
        if letters:
            letter = letters[place % len(letters)]
            if double:
                letters.append(letter)
            else:
                letters.remove(letter)

    @rule(milliseconds=st.integers(1, 400))
    def pass_time(self, milliseconds: int) -> None:
        self.world.run(milliseconds)

    @rule(node=nodes)
    def propose(self, node: int) -> None:
        core = self.world.nodes[NodeId(node)].core
        if core is not None and core.accepting:
            self.commands += 1
            self.world.propose(node, b"%d" % self.commands)

    @rule(node=nodes, at=nodes)
    def promote(self, node: int, at: int) -> None:
        if self.world.nodes[NodeId(at)].core is not None:
            self.token += 1
            self.world.promote(node, self.token, asked=at)

    @rule(node=nodes)
    def query(self, node: int) -> None:
        if self.world.nodes[NodeId(node)].core is not None:
            self.token += 1
            self.world.query(node, self.token)

    @rule(node=nodes, lose_disk=st.booleans())
    def stop(self, node: int, lose_disk: bool) -> None:
        if self.world.nodes[NodeId(node)].core is None:
            return
        if lose_disk and self.may_lose:
            self.may_lose = False
            self.world.wipe(node)
        else:
            self.world.crash(node)

    @rule(node=nodes)
    def begin_again(self, node: int) -> None:
        if self.world.nodes[NodeId(node)].core is None:
            self.world.start(node)

    @rule(node=nodes, held=st.booleans())
    def hold_disk(self, node: int, held: bool) -> None:
        self.world.nodes[NodeId(node)].disk.held = held
        if not held and self.world.nodes[NodeId(node)].core is not None:
            self.world.sync(node)

    @rule(node=nodes, peer=nodes, up=st.booleans())
    def connect(self, node: int, peer: int, up: bool) -> None:
        if node != peer and self.world.nodes[NodeId(node)].core is not None:
            self.world.feed(node, PeerUp(NodeId(peer)) if up else PeerDown(NodeId(peer)))

    @rule(node=nodes)
    def cut_off(self, node: int) -> None:
        self.world.isolate(node)

    @rule()
    def heal(self) -> None:
        self.world.heal()

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def acknowledged_commands_stay(self) -> None:
        for node in self.world.nodes.values():
            commands = node.commands
            if node.core is not None and node.core.state.role is Role.PRIMARY and not node.disk.snapshot:
                shared = min(len(commands), len(self.acknowledged))
                assert commands[:shared] == self.acknowledged[:shared]
                self.acknowledged = max(self.acknowledged, list(commands), key=len)


TestFenced = FencedMachine.TestCase
TestFenced.settings = settings(
    max_examples=25,
    stateful_step_count=40,
)
