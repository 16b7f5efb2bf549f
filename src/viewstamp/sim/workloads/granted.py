"""Clients with different grants: nothing that is denied is executed, and nothing permitted is denied.

The first is judged twice: a denied call has no answer of the machine, and the history, in which it counts as
not executed, fits the model only if it left no trace.
"""

from typing import Any, Final

from viewstamp.checker.history import OutcomeKind
from viewstamp.core.judge import InvariantViolated
from viewstamp.replica.authorization import Authorizer, Grant
from viewstamp.replica.events import Failed, Outcome
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.workload import StoreWorkload
from viewstamp.sim.world.options import LoadOptions

NAME: Final = "I36 Granted"
EVERYTHING: Final = "client/all"
READER: Final = "client/reader"
WRITER: Final = "client/writer"
STRANGER: Final = "client/stranger"
"""Has no grant."""
GRANTS: Final[tuple[Grant, ...]] = (
    Grant(principal=EVERYTHING, methods=("*",)),
    Grant(principal=READER, methods=("get",)),
    Grant(principal=WRITER, methods=("*",), prefixes=("k0", "k2")),
)
_ROLES: Final = (EVERYTHING, READER, WRITER, STRANGER)


def principal_of(client: int, clients: int) -> str:
    """Return on whose behalf a client acts; one that comes after the others may do everything."""
    number = -client
    return EVERYTHING if number > clients else _ROLES[(number - 1) % len(_ROLES)]


class GrantedClient(SimClient):
    """A client with a principal, whose calls are judged by its grants."""

    @property
    def principal(self) -> str:
        """What the servers have proved of its connections."""
        workload = self.host.workload
        assert isinstance(workload, GrantedStoreWorkload)
        return principal_of(self.name, workload.load.clients)

    def _judged(self, plan: Plan, outcome: Outcome) -> tuple[OutcomeKind, Any]:
        kind, result = super()._judged(plan, outcome)
        permitted = self._may(plan)
        denied = isinstance(outcome, Failed) and outcome.outcome == "denied"
        self.host.network.counts["call denied"] += denied
        if (permitted and denied) or (not permitted and kind in {"ok", "raised"}):
            what = "was denied" if denied else f"ended as {kind}"
            raise InvariantViolated(NAME, f"{plan.method}({plan.key}) by {self.principal} {what}")
        return kind, result

    def _may(self, plan: Plan) -> bool:
        machine = self.host.machine
        method = machine.methods[plan.method]
        arguments = machine.decode(method.kind, method.encode_call((plan.key, *plan.arguments), {}))
        authorizer = Authorizer(machine, GRANTS)
        return authorizer.denial(self.principal, arguments) is None


class GrantedStoreWorkload(StoreWorkload):
    """The store, with grants."""

    grants: tuple[Grant, ...] = GRANTS

    def __init__(self, load: LoadOptions) -> None:
        super().__init__(load)
        self.client_kind = GrantedClient
