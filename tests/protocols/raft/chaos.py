"""What can happen to a cluster, as a small set of moves that a random walk or Hypothesis chooses from."""

from random import Random

from tests.protocols.raft.harness import MS, Cluster
from viewstamp.core.events import TakeSnapshot, TransferLeadership
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft import RaftOptions

TIGHT = RaftOptions(
    log_bytes_max=400,
    message_entries_max=2,
    message_bytes_max=60,
    inflight_messages_max=2,
    inflight_bytes_max=120,
    uncommitted_entries_max=8,
    snapshot_chunk_bytes=16,
    snapshot_window_chunks=2,
    applies_per_step_max=3,
)
"""Limits so small that every one of them is met in a short run."""


class Chaos:
    """A cluster and the moves. Each takes numbers and does something whatever they are."""

    def __init__(self, size: int, *, seed: int = 0, options: RaftOptions = TIGHT) -> None:
        self.cluster = Cluster(size, options=options, seed=seed)
        self.cluster.padding = 50
        self.proposed = 0
        self.token = 0
        self.wipes = 0

    def _node(self, number: int) -> int:
        return self.cluster.members[number % len(self.cluster.members)]

    def _is_up(self, node: int) -> bool:
        return self.cluster.nodes[NodeId(node)].core is not None

    def deliver(self, number: int) -> None:
        """One of the first messages under way arrives: reordering."""
        letters = self.cluster.letters
        if letters:
            position = number % min(len(letters), 12)
            letter = letters[position]
            del letters[position]
            self.cluster.deliver(letter)

    def deliver_some(self, number: int) -> None:
        """Several messages arrive in order."""
        for _ in range(number % 10):
            if self.cluster.letters:
                self.cluster.deliver(self.cluster.letters.popleft())

    def drop(self, number: int) -> None:
        """A message is lost."""
        letters = self.cluster.letters
        if letters:
            del letters[number % len(letters)]

    def double(self, number: int) -> None:
        """A message will arrive twice."""
        letters = self.cluster.letters
        if letters:
            letters.append(letters[number % len(letters)])

    def wake(self, number: int) -> None:
        """A node's deadline passes."""
        node = self._node(number)
        if self._is_up(node):
            deadline = self.cluster.core(node).deadline
            if deadline is not None:
                self.cluster.now = Instant(max(self.cluster.now, deadline))
                self.cluster.wake(node)

    def pass_time(self, number: int) -> None:
        """A little time passes everywhere."""
        self.cluster.now = Instant(self.cluster.now + number % 50 * MS)

    def propose(self, number: int) -> None:
        """Each node that accepts gets a command."""
        node = self._node(number)
        if self._is_up(node) and self.cluster.core(node).accepting:
            self.proposed += 1
            self.cluster.propose(node, b"command %d" % self.proposed)

    def query(self, number: int) -> None:
        """A read anywhere."""
        node = self._node(number)
        if self._is_up(node):
            self.token += 1
            self.cluster.query(node, self.token)

    def crash(self, number: int) -> None:
        """A node dies with what it did not sync."""
        node = self._node(number)
        if self._is_up(node):
            self.cluster.crash(node)

    def restart(self, number: int) -> None:
        """A dead node comes back."""
        node = self._node(number)
        if not self._is_up(node):
            self.cluster.start(node)

    def wipe(self, number: int) -> None:
        """A node loses its disk, once in a run: one disk of a minority."""
        if self.wipes == 0 and len(self.cluster.members) >= 3 and self.cluster.leader is not None:
            self.wipes += 1
            node = self._node(number)
            self.cluster.wipe(node)
            self.cluster.start(node)

    def hold_disk(self, number: int) -> None:
        """A disk becomes slow."""
        self.cluster.nodes[NodeId(self._node(number))].disk.held = True

    def sync_disk(self, number: int) -> None:
        """A disk has written everything."""
        node = self._node(number)
        self.cluster.nodes[NodeId(node)].disk.held = False
        if self._is_up(node):
            self.cluster.sync(node)

    def hold_captures(self, number: int) -> None:
        """Snapshots take long, or fail, or are done."""
        node = self.cluster.nodes[NodeId(self._node(number))]
        node.hold_captures = not node.hold_captures
        if node.core is not None:
            self.cluster.finish_captures(node.node, fails=number % 3 == 0)

    def break_connection(self, number: int) -> None:
        """Two nodes lose their connection, and what was under way on it."""
        one, other = self._node(number), self._node(number + 1 + number // 7)
        if one != other and self._is_up(one):
            self.cluster.connect(one, other, up=False)
            self.cluster.connect(one, other, up=True)

    def transfer(self, number: int) -> None:
        """An operator wants another leader."""
        node = self._node(number)
        if self._is_up(node):
            self.token += 1
            target = NodeId(self._node(number // 5)) if number % 2 else None
            self.cluster.direct(node, self.token, TransferLeadership(target))

    def snapshot(self, number: int) -> None:
        """An operator wants a snapshot."""
        node = self._node(number)
        if self._is_up(node):
            self.token += 1
            self.cluster.direct(node, self.token, TakeSnapshot())

    def calm(self) -> None:
        """Everything is repaired; the cluster must serve again, and be of one mind."""
        cluster = self.cluster
        cluster.heal()
        for node in cluster.members:
            held = cluster.nodes[node]
            held.hold_captures = False
            self.sync_disk(node - 1)
            self.restart(node - 1)
            cluster.finish_captures(node)
        cluster.run(500)
        leader = cluster.elect()
        cluster.run_until(lambda: cluster.leader is not None and cluster.core(cluster.leader).accepting)
        leader = cluster.leader or leader
        cluster.propose(leader, b"last")
        cluster.run_until(self._is_agreed)

    def _is_agreed(self) -> bool:
        states = [self.cluster.core(node).state for node in self.cluster.members]
        applied = {state.applied for state in states}
        return len(applied) == 1 and all(state.is_voter for state in states)


MOVES: tuple[tuple[str, int], ...] = (
    ("deliver", 30),
    ("deliver_some", 30),
    ("drop", 4),
    ("double", 3),
    ("wake", 8),
    ("pass_time", 4),
    ("propose", 14),
    ("query", 4),
    ("crash", 2),
    ("restart", 4),
    ("wipe", 1),
    ("hold_disk", 2),
    ("sync_disk", 6),
    ("hold_captures", 1),
    ("break_connection", 2),
    ("transfer", 1),
    ("snapshot", 1),
)
"""Moves by name, with how often a random walk takes them."""


def walk(seed: int, steps: int) -> Chaos:
    """Take a random walk, then repair everything and see that the cluster lives."""
    random = Random(seed)
    chaos = Chaos(random.choice((1, 2, 3, 3, 3, 4, 5)), seed=seed)
    names = [name for name, _ in MOVES]
    weights = [weight for _, weight in MOVES]
    for _ in range(steps):
        (name,) = random.choices(names, weights)
        getattr(chaos, name)(random.randrange(1000))
    chaos.calm()
    return chaos
