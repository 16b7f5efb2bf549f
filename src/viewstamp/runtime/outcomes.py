"""How a call ended, as a value or as an exception: DESIGN promises 2 and 3 at the call site."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from viewstamp.core.errors import (
    CallError,
    CommandFailed,
    InvalidCall,
    NotExecuted,
    OutcomeUnknown,
    SessionExpired,
)
from viewstamp.core.ids import NodeId
from viewstamp.machine.definition import Method
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.client.failures import names
from viewstamp.replica.events import Failed, Outcome, Raised, Returned

_FAILURES: Final[dict[str, type[CallError]]] = {
    "not_executed": NotExecuted,
    "invalid": InvalidCall,
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

    def make(self, raised: Raised, method: str = "") -> Exception:
        """Return the machine's own exception if it was declared, and `CommandFailed` otherwise."""
        declared = self._declared.get(raised.kind)
        if declared is not None:
            try:
                return declared(raised.explanation)
            except TypeError:
                pass  # it wants other arguments than a text: the caller gets the general form
        return CommandFailed(raised.kind, raised.explanation, method=method)


NO_ERRORS: Final = Errors(None)


def failure_of(outcome: Raised | Failed, errors: Errors, method: str = "") -> Exception:
    """Return the exception that tells the caller of this outcome, with what it may act on as data."""
    if isinstance(outcome, Raised):
        return errors.make(outcome, method)
    kind = _FAILURES[outcome.outcome]
    return kind(outcome.reason, unreachable=outcome.unreachable, silent=outcome.silent, method=method)


def with_refusals(outcome: Outcome, refusals: Mapping[NodeId, str]) -> Outcome:
    """Return the outcome; without a result it says as well which servers refuse us, and why.

    To the core such a server is one that cannot be reached. The caller has to know that it can be, and
    that waiting does not help: the cluster file is another cluster's, or too many are connected.
    """
    said = {why: [node for node in refusals if refusals[node] == why] for why in refusals.values() if why}
    if not said or not isinstance(outcome, Failed):
        return outcome
    told = "; ".join(f"{names(nodes)} refused this client: {why}" for why, nodes in said.items())
    return msgspec.structs.replace(outcome, reason=f"{outcome.reason}; {told}")


def result_of(outcome: Outcome, method: Method | None, errors: Errors = NO_ERRORS) -> Any:
    """Return the result, decoded by the method or, without one, as it came; raise what else it was.

    Raises:
        NotExecuted, InvalidCall, OutcomeUnknown, CommandFailed, or an exception that the machine declared.
    """
    if not isinstance(outcome, Returned):
        raise failure_of(outcome, errors, "" if method is None else method.name)
    if method is None:
        return outcome.payload
    try:
        return method.decode_result(outcome.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OutcomeUnknown(
            f"{method.name} was executed, but its result is not of the declared type: {error}",
            method=method.name,
        ) from error
