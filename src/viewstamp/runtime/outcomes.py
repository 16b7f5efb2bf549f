"""How a call ended, as a value or as an exception: DESIGN promises 2 and 3 at the call site."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from viewstamp.core.errors import CommandFailed, NotExecuted, OutcomeUnknown, SessionExpired, ViewstampError
from viewstamp.core.ids import NodeId
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.client.failures import names
from viewstamp.replica.events import Failed, Outcome, Raised, Returned

_FAILURES: Final[dict[str, type[ViewstampError]]] = {
    "not_executed": NotExecuted,
    "invalid": NotExecuted,
    "session_expired": SessionExpired,
    "unknown": OutcomeUnknown,
}


class Errors:
    """The exceptions that a machine has declared in its class: `raises = (NoKey, VersionMismatch)`."""

    __slots__ = ("_declared",)

    def __init__(self, machine: type[StateMachine] | None) -> None:
        self._declared: dict[str, type[Exception]] = {}
        if machine is not None:
            self._declare([machine, *machine.parts.values()])

    def _declare(self, machines: Iterable[type[StateMachine]]) -> None:
        for machine in machines:
            for declared in getattr(machine, "raises", ()):
                self._declared[declared.__name__] = declared

    def make(self, raised: Raised) -> Exception:
        """Return the machine's own exception if it was declared, and `CommandFailed` otherwise."""
        declared = self._declared.get(raised.kind)
        if declared is not None:
            try:
                return declared(raised.explanation)
            except TypeError:
                pass  # it wants other arguments than a text: the caller gets the general form
        return CommandFailed(raised.kind, raised.explanation)


NO_ERRORS: Final = Errors(None)


def failure_of(outcome: Raised | Failed, errors: Errors) -> Exception:
    """Return the exception that tells the caller of this outcome."""
    if isinstance(outcome, Raised):
        return errors.make(outcome)
    return _FAILURES[outcome.outcome](outcome.reason)


def with_refusals(outcome: Outcome, refusals: Mapping[NodeId, str]) -> Outcome:
    """Return the outcome; without a result it says as well which servers refuse us, and why.

    To the core such a server is one that cannot be reached. The caller has to know that it can be, and
    that waiting does not help: the cluster file is another cluster's, or too many are connected.
    """
    said = {why: [node for node in refusals if refusals[node] == why] for why in refusals.values() if why}
    if not said or not isinstance(outcome, Failed):
        return outcome
    told = "; ".join(f"{names(nodes)} refused this client: {why}" for why, nodes in said.items())
    return Failed(outcome.outcome, f"{outcome.reason}; {told}")


def result_of(outcome: Outcome, method: Method | None, errors: Errors = NO_ERRORS) -> Any:
    """Return the result, decoded by the method or, without one, as it came; raise what else it was.

    Raises:
        NotExecuted, OutcomeUnknown, CommandFailed, or an exception that the machine declared.
    """
    if not isinstance(outcome, Returned):
        raise failure_of(outcome, errors)
    if method is None:
        return outcome.payload
    try:
        return method.decode_result(outcome.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OutcomeUnknown(
            f"{method.name} was executed, but its result is not of the declared type: {error}"
        ) from error


def errors_of(definition: MachineDefinition) -> Errors:
    """Return the exceptions that this machine and its parts have declared."""
    return Errors(definition.cls)
