"""The second half of a run: the faults end for a quorum, and then the service must live.

See docs/faults.md#swarm.

A random quorum is chosen, healed and restarted; its faults are switched off; the faults outside it become
permanent. Within a bound the quorum must elect, serve every kind of call, and converge.
"""

from typing import Final

from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.quorum import majority
from viewstamp.replica.events import Failed, Outcome
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.faults.faults import FaultInjector
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.world.options import NetworkOptions

NAME: Final = "I19 Liveness"
SERVE_BOUND_US: Final = 30_000_000
"""To elect and to answer one call of each kind, after everything was healed."""
CONVERGE_BOUND_US: Final = 20_000_000
CALL_GRACE_US: Final = 100_000
_AGAIN_US: Final = 100_000
"""Until a call that was refused is made again."""
"""How long after its deadline a call may end (DESIGN promise 3; issue 2: 100 ms)."""
_CALM: Final = NetworkOptions()


def _must_not_happen(node: NodeId) -> None:
    raise InvariantViolated(NAME, f"node {node} ended although its disk no longer has faults")


class LivenessPhase:
    """Heals what must be healed and requires proof that the service works."""

    def __init__(self, cluster: Cluster, injector: FaultInjector) -> None:
        self._cluster = cluster
        self._injector = injector
        self._rng = cluster.tree.stream("liveness")
        self._answers: list[Outcome] = []

    def run(self) -> None:
        """Raise `InvariantViolated` where the service does not come back in time."""
        # First, as it replaces damaged disks: which nodes may be chosen depends on what they held.
        self._injector.stop()
        chosen = self._choose()
        self._heal(chosen)
        self._let_calls_end()
        self._serve()
        self._converge(chosen)

    def _choose(self) -> list[NodeId]:
        """Return the nodes that are to live: all, or so few that the protocol only just owes progress.

        They are taken from those whose disks were never lost, as far as there are enough.
        """
        cluster = self._cluster
        sound = [node for node in cluster.members if not cluster.processes[node].damaged]
        if self._rng.random() < 0.5:
            return sound
        listed = cluster.judge.listed() or dict.fromkeys(cluster.first_members)
        sound = [node for node in sound if node in listed]
        kept = [node for node in sound if node not in self._injector.atlas.lost]
        needed = majority(len(listed)) if cluster.definition.guarantees.tolerates == "minority" else 1
        needed = min(needed, len(kept))
        chosen = self._rng.sample(kept, min(len(kept), self._rng.randint(needed, max(needed, len(kept)))))
        others = [node for node in sound if node not in chosen]
        self._rng.shuffle(others)
        while others and not cluster.owes_progress(chosen):
            chosen.append(others.pop())
        return sorted(chosen)

    def _heal(self, chosen: list[NodeId]) -> None:
        cluster = self._cluster
        cluster.trace.note(cluster.world.now_us, "heal", -1, quorum=chosen)
        cluster.on_death = _must_not_happen
        cluster.network.configure(_CALM)
        for node, process in cluster.processes.items():
            process.steady()
            if node not in chosen and process.running:
                cluster.crash(node)
        for node in chosen:
            if not cluster.processes[node].running:
                cluster.start(node)
        for client in cluster.clients.values():
            client.healed(frozenset(chosen))
        cluster.operator.healed(chosen)

    def _let_calls_end(self) -> None:
        """Every call ends by its deadline, with any outcome."""
        cluster = self._cluster
        clients = list(cluster.clients.values())
        deadlines = [call.deadline_us for client in clients for call in client.calls.values()]
        limit = max(deadlines, default=cluster.world.now_us) + CALL_GRACE_US
        if not cluster.world.run_while(lambda: any(client.calls for client in clients), limit):
            open_calls = sum(len(client.calls) for client in clients)
            raise InvariantViolated(
                NAME, f"{open_calls} calls are still open {CALL_GRACE_US} us after their deadlines"
            )

    def _serve(self) -> None:
        """A new client writes and reads every key, one call after the other."""
        cluster = self._cluster
        if cluster.options.tuning.sessions_max <= len(cluster.clients):
            for other in cluster.clients.values():
                other.close()  # one more session would be refused as long as all of theirs live
        client = cluster.add_client(self)
        limit = cluster.world.now_us + SERVE_BOUND_US
        for plan in cluster.workload.final_plans():
            self._ask(client, plan, limit)

    def _ask(self, client: SimClient, plan: Plan, limit_us: int) -> None:
        """Ask until it is answered: a call that was certainly not executed may be made again."""
        cluster = self._cluster
        while True:
            self._answers.clear()
            client.invoke(plan, max(1, limit_us - cluster.world.now_us))
            if not cluster.world.run_while(lambda: not self._answers, limit_us + CALL_GRACE_US):
                raise InvariantViolated(NAME, f"{plan.method}({plan.key}) has no answer after the heal")
            answer = self._answers[-1]
            if not isinstance(answer, Failed):
                return
            if answer.outcome == "unknown" or cluster.world.now_us >= limit_us:
                raise InvariantViolated(
                    NAME,
                    f"{plan.method}({plan.key}) after the heal ended as {answer.outcome}: {answer.reason}",
                )
            cluster.world.run_while(lambda: True, cluster.world.now_us + _AGAIN_US)

    def _converge(self, chosen: list[NodeId]) -> None:
        """All live nodes reach the end of the history, in the same state."""
        cluster = self._cluster
        if not cluster.world.run_while(
            lambda: not self._level(chosen), cluster.world.now_us + CONVERGE_BOUND_US
        ):
            places = {node: self._applied(node) for node in self._expected(chosen)}
            length = cluster.judge.ghosts.committed.length
            raise InvariantViolated(
                NAME, f"{length} entries are committed, but the nodes have applied {places}"
            )
        for node in self._expected(chosen):
            replica = cluster.processes[node].replica
            assert replica is not None
            cluster.judge.state(node, replica.applied, cluster.processes[node].state_digest())

    def _level(self, chosen: list[NodeId]) -> bool:
        length = self._cluster.judge.ghosts.committed.length
        slack = 1 if self._cluster.definition.guarantees.reads == "one_behind" else 0
        return all(length - self._applied(node) <= slack for node in self._expected(chosen))

    def _expected(self, chosen: list[NodeId]) -> list[NodeId]:
        """Return which of these nodes take part: by the ghosts, where members change."""
        listed = self._cluster.judge.listed()
        return chosen if listed is None else [node for node in chosen if node in listed]

    def _applied(self, node: NodeId) -> int:
        replica = self._cluster.processes[node].replica
        return -1 if replica is None else replica.applied.seqno

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:  # noqa: ARG002  as `Observer`
        """An answer to a call of this phase."""
        self._answers.append(outcome)
