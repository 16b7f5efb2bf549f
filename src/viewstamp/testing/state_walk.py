"""What the state of a machine is made of: its parts, its objects, and what a text of it must not show."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from viewstamp.machine.rules import HOST, IDENTITY, Rule
from viewstamp.machine.state_machine import StateMachine

_DEPTH_MAX: Final = 50
_TELLTALES: Final = (
    (re.compile(rb"at 0x[0-9a-f]{6,}"), IDENTITY, "the address of an object"),
    (re.compile(rb"Traceback \(most recent call last\)"), HOST, "a traceback, with the files of its host"),
)


def telltale(encoded: bytes) -> tuple[Rule, str] | None:
    """Return (rule, what) of a text that each process writes in another way; None: there is none."""
    return next(((rule, what) for text, rule, what in _TELLTALES if text.search(encoded)), None)


def parts_of(machine: StateMachine) -> list[StateMachine]:
    """Return the machines of which this one is composed; itself, if it is not."""
    inner: dict[str, StateMachine] | None = vars(machine).get("machines") if machine.parts else None
    return [part for one in inner.values() for part in parts_of(one)] if inner is not None else [machine]


def shared_objects(machine: StateMachine) -> str:
    """Return the paths of an object that can change and stands in two places of the state; "" for none."""
    for part in parts_of(machine):
        seen: dict[int, str] = {}
        for path, value in _objects(part):
            if isinstance(value, frozenset):
                continue
            if id(value) in seen:
                return f"{seen[id(value)]} and {path}"
            seen[id(value)] = path
    return ""


def holds_set(machine: StateMachine) -> bool:
    """Return whether the state has a set of two members or more."""
    return any(
        isinstance(value, (set, frozenset)) and len(value) > 1
        for part in parts_of(machine)
        for _, value in _objects(part)
    )


def _objects(part: StateMachine) -> Iterator[tuple[str, Any]]:
    """Yield (path, object) of everything in the state that can be changed in place; shared ones again."""
    waiting = [(f"self.{name}", value, 0) for name, value in reversed(state_of(part).items())]
    while waiting:
        path, value, depth = waiting.pop()
        inner = list(_inside(path, value)) if depth < _DEPTH_MAX else []
        if isinstance(value, (list, dict, set, frozenset, bytearray)) or (
            inner and not isinstance(value, tuple)
        ):
            yield path, value
        waiting += [(name, item, depth + 1) for name, item in reversed(inner)]


def _inside(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{path}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"{path}[{place}]", item) for place, item in enumerate(value))
    elif isinstance(value, msgspec.Struct):
        yield from ((f"{path}.{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, StateMachine)):
        yield from ((f"{path}.{name}", item) for name, item in vars(value).items())


def state_of(part: StateMachine) -> dict[str, Any]:
    """Return the attributes of a machine that are the user's."""
    return {name: value for name, value in vars(part).items() if not name.startswith("_StateMachine__")}
