"""One object in two places of the state, which a snapshot would make two.

Where a command changes such an object, the change is seen in both places until a restart, and in one place
after it. So a migration that leaves one is refused where it runs, on every replica alike.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from viewstamp.machine.evolution import REMOVED
from viewstamp.machine.state_machine import StateMachine, annotated_state, saves_itself
from viewstamp.machine.type_kinds import field_names

_SCALARS: Final = frozenset((int, float, str, bytes, bool, type(None)))
_IMMUTABLE: Final = (tuple, frozenset)


def shared_object(machine: StateMachine) -> str:
    """Name two attributes, or one, that hold the same changeable object twice; empty: there are none.

    A class that saves itself is not looked into.
    """
    parts: dict[str, StateMachine] = vars(machine).get("machines", {})
    if parts:
        found = (
            (f" in the part {name}" if name else "", shared_object(part)) for name, part in parts.items()
        )
        return next((f"{shared}{where}" for where, shared in found if shared), "")
    return "" if saves_itself(type(machine)) else _shared(machine)


def _shared(machine: StateMachine) -> str:
    seen: dict[int, str] = {}
    for name in annotated_state(type(machine)):
        pending = [getattr(machine, name)]
        while pending:
            value = pending.pop()
            if type(value) in _SCALARS or value is REMOVED:
                continue
            parts = _parts(value)
            if parts is None:
                continue
            if id(value) not in seen:
                seen[id(value)] = name
                pending += parts
            elif _can_change(value):
                where = seen[id(value)]
                both = f"self.{where} and self.{name} hold" if where != name else f"self.{name} holds twice"
                return f"{both} one {type(value).__qualname__}"
    return ""


def _parts(value: Any) -> Iterable[Any] | None:
    """Return what an object consists of, scalars left out; None: nothing that could be shared."""
    if isinstance(value, dict):
        return [each for each in (*value, *value.values()) if type(each) not in _SCALARS]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [] if _SCALARS.issuperset(map(type, value)) else value
    if isinstance(value, bytearray):
        return ()
    names = field_names(value)
    return [getattr(value, name) for name in names] if names else None


def _can_change(value: Any) -> bool:
    """Return whether an object can be changed, or holds one that can be."""
    pending, seen = [value], set[int]()
    while pending:
        each = pending.pop()
        parts = None if type(each) in _SCALARS else _parts(each)
        if parts is None or id(each) in seen:
            continue
        seen.add(id(each))
        if not (isinstance(each, _IMMUTABLE) or _is_frozen(each)):
            return True
        pending += parts
    return False


def _is_frozen(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return bool(value.__struct_config__.frozen)
    parameters = getattr(type(value), "__dataclass_params__", None)
    return bool(getattr(parameters, "frozen", False))
