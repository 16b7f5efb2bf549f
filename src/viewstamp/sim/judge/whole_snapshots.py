"""I33: what a snapshot holds is the whole state: restored into a fresh instance it is the same machine.

A class whose `snapshot` forgets an attribute, or whose `restore` does, is found here at its first snapshot
and named, with the attribute. I13 finds it only where a node restores, goes on, and its next snapshot
differs.

Compared are the snapshot taken again, which must have the same bytes; the names of the instance's attributes;
and the values of those that the class declares. A class may derive the others from them (an index), so only
for the services of this library, whose derived attributes are known, is everything compared.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.machine.state_machine import StateMachine, annotated_state
from viewstamp.replica import snapshot_body
from viewstamp.replica.events import Save
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService

NAME: Final = "I33 SnapshotWhole"
BYTES_MAX: Final = 256 << 10
"""A longer snapshot is not looked at: what a class forgets it forgets in short ones as well."""

_DERIVED: Final[Mapping[type[StateMachine], frozenset[str]]] = {
    KeyValueStore: frozenset({"_sorted", "_unsorted"}),
    LockService: frozenset(),
}
"""For classes that save themselves and are known to the letter: what `restore` makes of the rest."""
_OURS: Final = "_StateMachine__"
_SHOWN_MAX: Final = 120


def check_whole(node: NodeId, state: ReplicatedState, save: Save, body: bytes) -> None:
    """Raise `InvariantViolated` where this snapshot, just taken of `state`, does not hold all of it."""
    viewstamp = save.viewstamp
    if len(body) > BYTES_MAX:
        return
    try:
        fresh = snapshot_body.restore(BytesSnapshot(viewstamp, save.header, body), state)
    except snapshot_body.SnapshotUnreadable as error:
        raise InvariantViolated(NAME, f"node {node}, snapshot of {viewstamp}: {error}") from None
    difference = None
    if state.applied == viewstamp:  # not where entries were applied since, within the same step
        difference = _state_difference(state, fresh)
    if difference is None and b"".join(snapshot_body.capture(fresh)) != body:
        difference = (
            f"{state.definition.cls.__name__}: taken again of what `restore` made, it has other bytes"
        )
    if difference is not None:
        raise InvariantViolated(NAME, f"node {node}, snapshot of {viewstamp}: {difference}")


def _state_difference(state: ReplicatedState, fresh: ReplicatedState) -> str | None:
    in_force = state.runner.in_force
    if in_force.is_whole or state.versions is None:
        return difference_of(state.runner.machine, fresh.runner.machine)
    before, after = (
        [*in_force.digest_pieces(machine)] for machine in (state.runner.machine, fresh.runner.machine)
    )
    return None if before == after else "what is in force of it is not what it was after `restore`"


def difference_of(machine: StateMachine, fresh: StateMachine) -> str | None:
    """Say what of a machine its restored copy lacks; None: nothing that the class declares."""
    if machine.parts:
        pairs = zip(_parts(machine), _parts(fresh), strict=True)
        return next((found for one, other in pairs if (found := difference_of(one, other))), None)
    cls = type(machine)
    had, has = _attributes(machine), _attributes(fresh)
    if absent := sorted(had.keys() - has.keys()):
        return f"{cls.__name__}.{absent[0]} is missing after `restore`"
    derived = _DERIVED.get(cls)
    compared = annotated_state(cls).keys() & had.keys() if derived is None else had.keys() - derived
    for name in sorted(compared):
        before, after = _shape(had[name]), _shape(has[name])
        if before != after:
            what = f"{cls.__name__}.{name} is not what it was after `snapshot` and `restore`"
            return f"{what}: {_short(before)} became {_short(after)}"
    return None


def _parts(machine: StateMachine) -> list[StateMachine]:
    return list(vars(machine)["machines"].values())


def _attributes(machine: StateMachine) -> dict[str, Any]:
    return {name: value for name, value in vars(machine).items() if not name.startswith(_OURS)}


def _shape(value: Any) -> Any:
    """Return what can be compared: objects without an equality of their own as their attributes."""
    if type(value) is dict:
        return {
            key: _shape(item) for key, item in value.items()
        }  # its order shows in the snapshot, if at all
    if isinstance(value, Mapping):
        return [(_shape(key), _shape(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_shape(item) for item in value]
    equality: Any = type(value).__eq__
    if equality is not object.__eq__ or isinstance(value, Enum):
        return value
    slots = getattr(type(value), "__slots__", ())
    names = [*getattr(value, "__dict__", ()), *((slots,) if isinstance(slots, str) else slots)]
    return [(name, _shape(getattr(value, name, None))) for name in names]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
