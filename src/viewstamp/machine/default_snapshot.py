"""The default snapshot of a machine: its annotated attributes, in order of definition, by msgspec.

A snapshot that would come back as something else is not made: each attribute is decoded again and compared,
types included, before its bytes are handed out. What a restart would lose is found while it is still there.

The order inside a dict is state, since a machine may depend on it; it is kept. Sets have no order that a
machine may depend on: they are sorted, also inside a dict, which keeps its own.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from itertools import chain
from typing import Any, Final

import msgspec

from viewstamp.machine.canonical import encoder_of
from viewstamp.machine.evolution import REMOVED
from viewstamp.machine.type_kinds import field_names

_ENCODER: Final = msgspec.msgpack.Encoder()
_SCALARS: Final = frozenset((int, float, str, bytes, bool, type(None)))
_PIECE: Final[msgspec.msgpack.Decoder[list[tuple[str, msgspec.Raw]]]] = msgspec.msgpack.Decoder(
    list[tuple[str, msgspec.Raw]]
)


def encode_state(machine: Any, state: Mapping[str, Any]) -> bytes:
    """Return the attributes as one msgpack array of (name, value).

    Raises:
        StateNotKept: an attribute would be lost, or would come back as something else; it is named.
    """
    require_declared(machine, state)
    return _ENCODER.encode(
        [
            (name, msgspec.Raw(encode_attribute(machine, name, hint)))
            for name, hint in state.items()
            if getattr(machine, name, None) is not REMOVED
        ]
    )


class StateNotKept(TypeError):
    """An attribute of a machine cannot be saved, or would not come back as it is. Nothing was written."""


def require_declared(machine: Any, state: Mapping[str, Any]) -> None:
    """Refuse an attribute that the class does not declare: no snapshot would hold it.

    Raises:
        StateNotKept: there is one; it is named.
    """
    extra = [name for name in vars(machine) if name not in state and not name.startswith("_StateMachine__")]
    if extra:
        raise StateNotKept(f"attribute {extra[0]!r} is not declared: annotate it in the class")


def _as_it_is(value: Any) -> Any:
    return value


def encode_attribute(machine: Any, name: str, hint: Any, project: Callable[[Any], Any] = _as_it_is) -> bytes:
    """Return one attribute in the form that `project` gives it; it comes back in the same form.

    Raises:
        StateNotKept: it would be lost, or would come back as something else.
    """
    where = f"{type(machine).__qualname__}.{name}"
    try:
        value = project(getattr(machine, name))
        data = encoder_of(hint).encode(value)
        again = project(msgspec.msgpack.decode(data, type=hint))
    except AttributeError:
        raise StateNotKept(f"{where} has no value: give it a default") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StateNotKept(f"{where} cannot be saved: {error}") from None
    difference = changed(value, again)
    if difference is not None:
        raise StateNotKept(f"{where} would come back changed: {difference}")
    return data


def changed(value: Any, again: Any) -> str | None:
    """Return what decoding made of a value, where the type of any part of it differs; None where it is kept.

    Iterative, so that depth costs memory and no recursion; runs of scalars are compared as a whole.
    """
    pending = [(value, again)]
    while pending:
        before, after = pending.pop()
        kind = type(before)
        if kind is not type(after):
            return f"a {kind.__qualname__} becomes a {type(after).__qualname__}"
        if kind in _SCALARS:
            continue
        if kind is dict and len(before) != len(after):
            return "two keys of a dict become one"
        if kind in {set, frozenset} and set(map(type, before)) != set(map(type, after)):
            return f"the members of a {kind.__qualname__} change their types"
        undeclared = _undeclared(before)
        if undeclared is not None:
            return f"{kind.__qualname__}.{undeclared} is not declared"
        pending += _inner_pairs(before, after)
    return None


def _inner_pairs(before: Any, after: Any) -> Iterable[tuple[Any, Any]]:
    if type(before) in {list, tuple}:
        kinds = list(map(type, before))
        plain = _SCALARS.issuperset(kinds) and kinds == list(map(type, after))
        return () if plain else zip(before, after, strict=True)
    if type(before) is dict:
        return chain(zip(before, after, strict=True), zip(before.values(), after.values(), strict=True))
    return ((getattr(before, name), getattr(after, name)) for name in field_names(before))


def _undeclared(value: Any) -> str | None:
    """Return an attribute of a struct or dataclass that is not a field of it; None where there is none."""
    if not (isinstance(value, msgspec.Struct) or is_dataclass(value)):
        return None
    extra = set(getattr(value, "__dict__", ())).difference(field_names(value))
    return min(extra, default=None)


def decode_state(machine: Any, state: Mapping[str, Any], snapshot: bytes) -> None:
    """Set the attributes from `encode_state`'s bytes; one that is missing there keeps its default.

    Raises:
        ValueError: these bytes are not the state of such a machine.
    """
    found = dict(_PIECE.decode(snapshot))
    unknown = found.keys() - state.keys()
    if unknown:
        raise ValueError(f"a snapshot with the unknown attribute {min(unknown)!r}")
    for name, raw in found.items():
        setattr(machine, name, msgspec.msgpack.decode(raw, type=state[name]))
