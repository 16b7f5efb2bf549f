"""Fenced clusters for scripted and random tests: the world that all logs share, and what is said as prose."""

from random import Random

from tests.protocols.machines import Node
from tests.protocols.world import MS, Letter, World
from viewstamp.core.effects import Effect, Settled
from viewstamp.core.events import Event, Received, TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.protocols.primary_backup import PrimaryBackupCore
from viewstamp.protocols.primary_backup.judge.oracle import PrimaryBackupOracle
from viewstamp.protocols.primary_backup.messages import FencedMessage
from viewstamp.protocols.primary_backup.options import PrimaryBackupOptions
from viewstamp.protocols.primary_backup.state import Role
from viewstamp.protocols.primary_backup.status import role_of


class FencedWorld(World[PrimaryBackupCore]):
    """Members 0, 1, ...; what happens to them is written to `lines`."""

    def __init__(
        self, size: int, *, options: PrimaryBackupOptions | None = None, start: bool = True, seed: int = 0
    ) -> None:
        members = tuple(NodeId(number) for number in range(size))
        super().__init__(
            members,
            make_core=PrimaryBackupCore,
            oracle=PrimaryBackupOracle(members),
            message_type=FencedMessage,
            options=options or PrimaryBackupOptions(),
            rng=lambda node: Random(f"{seed}/{node}"),
        )
        self.lines: list[str] = []
        if start:
            for node in self.members:
                self.start(node)

    def crash(self, number: int) -> None:
        """The process dies; what is in flight to it is lost."""
        self.lines.append(f"node {number} dies")
        super().crash(number)

    def wipe(self, number: int) -> None:
        """The process dies and its data directory is deleted: the next start has another incarnation."""
        super().wipe(number)
        self.lines[-1] = f"node {number} dies and loses its disk"

    def propose(self, number: int, data: bytes) -> None:
        """A command is to be ordered; the member must be accepting."""
        self.lines.append(f"node {number} is to order {data.decode()!r}")
        super().propose(number, data)

    def promote(self, number: int, token: int, *, asked: int | None = None) -> None:
        """The operator wants member `number` to lead, and tells so to `asked` (or to it itself)."""
        at = number if asked is None else asked
        self.lines.append(f"the operator wants node {number} to lead, and says so to node {at}")
        self.direct(at, token, TransferLeadership(NodeId(number)))

    def write(self, number: int, *data: bytes) -> None:
        """Order commands one after the other, everything being delivered."""
        for each in data:
            self.propose(number, each)
            self.settle()

    @property
    def primary(self) -> int | None:
        """The primary of the highest epoch that says so itself."""
        leading = [
            (node.core.state.epoch, int(number))
            for number, node in self.nodes.items()
            if node.core is not None and node.core.state.role is Role.PRIMARY
        ]
        return max(leading)[1] if leading else None

    def _step(self, node: Node[PrimaryBackupCore], event: Event) -> list[Effect]:
        if isinstance(event, Received):
            self.lines.append(f"{event.source} -> {node.node}: {self.oracle.describe(event.message)}")
        before = _account(node)
        effects = super()._step(node, event)
        after = _account(node)
        self.lines += [
            f"    {node.node} {line}" for line, known in zip(after, before, strict=True) if line != known
        ]
        return effects

    def _carry_out(self, node: Node[PrimaryBackupCore], effect: Effect) -> None:
        super()._carry_out(node, effect)
        if isinstance(effect, Settled):
            self.lines.append(f"    {node.node} tells the operator: {effect.refusal or 'done'}")


def _account(node: Node[PrimaryBackupCore]) -> list[str]:
    """Return where a member stands, in sentences."""
    state = node.running.state
    record = state.record
    who = "nobody" if state.leader is None else f"node {state.leader}"
    known = "no record" if record is None else f"record {record.epoch}/{record.version}"
    members = "" if record is None else f": synchronous {', '.join(map(str, record.members))}"
    return [
        f"is {role_of(state)} in epoch {state.epoch}, primary is {who}",
        f"knows {known}{members}",
        f"has the log up to {state.log.last}",
        f"knows that everything up to {state.committed} is committed",
    ]


def bootstrapped(size: int, *, options: PrimaryBackupOptions | None = None) -> FencedWorld:
    """Return a cluster that was bootstrapped and has committed its first entry."""
    world = FencedWorld(size, options=options)
    world.run(20)
    assert world.primary == 0
    return world


def members_in_force(world: FencedWorld, number: int) -> tuple[int, ...]:
    """Return the synchronous members of the record in force at this primary; none where none is."""
    record = world.core(number).replication.synchronous_set.in_force
    return () if record is None else tuple(int(node) for node in record.members)


__all__ = ["MS", "FencedWorld", "Letter", "bootstrapped", "members_in_force"]
