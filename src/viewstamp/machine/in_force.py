"""What the version in force defines of a class whose code may define more.

While members run two versions of a class, and until the newer one is in force, digests and snapshots hold
what the interface in force defines and nothing else. Where a class defines exactly that, which is nearly
always, nothing here costs anything.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields as fields_of_dataclass
from dataclasses import is_dataclass
from enum import Enum
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import msgspec

from viewstamp.core.messages import UNREADABLE
from viewstamp.machine.canonical import sorted_bytes, sorting_encoder_of
from viewstamp.machine.default_snapshot import encode_attribute, require_declared
from viewstamp.machine.definition import MachineDefinition, arity_of
from viewstamp.machine.evolution import REMOVED, removed_attributes, version_of
from viewstamp.machine.interface import interface_digest, interface_of, lacking
from viewstamp.machine.state_digest import digest_pieces
from viewstamp.machine.state_machine import StateMachine, annotated_state, framed_part, saves_itself
from viewstamp.machine.type_kinds import field_names

_SCALARS: Final = frozenset((int, float, str, bytes, bool, type(None)))
_FINALIZE: Final = "run `viewstamp upgrade finalize` first"
_ENCODER: Final = msgspec.msgpack.Encoder()

Allows = Callable[[Any, Any], str]
"""Returns why a command, decoded and as it came, may not be executed; empty: it may."""


class VersionInForce:
    """A version and its interface, as seen by this code."""

    __slots__ = ("_definition", "_shadows", "allows", "declared", "interface", "is_whole", "version")

    def __init__(
        self, definition: MachineDefinition, version: int, interface: Mapping[str, str] | None
    ) -> None:
        """`interface` is what the log says; None: it says nothing, so what this class defines counts."""
        self._definition = definition
        self.version = version
        self.declared = None if interface is None else dict(interface)
        """The interface as the log says it; None: the log does not say it."""
        own = interface_of(definition.cls, version)
        self.interface: Mapping[str, str] = own if interface is None else interface
        self.is_whole = interface is None or list(own.items()) == list(interface.items())
        """Whether this code defines no more than the interface in force."""
        self._shadows: dict[type[Any], Callable[[Any], Any]] = {}
        blocked = self._blocked()
        self.allows: Allows | None = None if self.is_whole and not blocked else self._gate(blocked)
        """None: every command may be executed."""

    @property
    def digest(self) -> int:
        """Digest of the interface: states of two of them are not compared."""
        return interface_digest(self.interface)

    @staticmethod
    def newest(definition: MachineDefinition) -> "VersionInForce":
        """Return what is in force where only this code has ever run."""
        return VersionInForce(definition, version_of(definition.cls), None)

    def needs(self) -> str:
        """Say why this code cannot run this version; empty: it can."""
        cls = self._definition.cls
        if self.version > version_of(cls):
            return f"it needs version {self.version} of {cls.__name__}; this code has {version_of(cls)}"
        missing = lacking(interface_of(cls, self.version), self.interface)
        return f"it needs another {cls.__name__} than this code has: {missing}" if missing else ""

    # Commands

    def _blocked(self) -> dict[type[Any], int | None]:
        """Return, by type of arguments, how many of them may be given; None: the command does not exist."""
        blocked: dict[type[Any], int | None] = {}
        for method in self._definition.methods.values():
            if method.kind != "command":
                continue
            names = method.arguments.__struct_fields__
            if f"{method.name}()" not in self.interface:
                blocked[method.arguments] = None
                continue
            known = sum(
                f"{method.name}({place} {name})" in self.interface for place, name in enumerate(names)
            )
            if known < len(names):
                blocked[method.arguments] = known
        return blocked

    def _gate(self, blocked: dict[type[Any], int | None]) -> Allows:
        methods = {method.arguments: method for method in self._definition.methods.values()}
        version = self.version

        def allows(arguments: Any, payload: Any) -> str:
            method = methods[type(arguments)]
            if type(arguments) not in blocked:
                return self._new_within(method.name, arguments)
            most = blocked[type(arguments)]
            if most is None:
                since = f"exists since version {method.since}" if method.since > version else "is new"
                return f"{method.name} {since}, and version {version} is in force: {_FINALIZE}"
            if arity_of(payload) <= most:
                return self._new_within(method.name, arguments, most)
            name = method.arguments.__struct_fields__[most]
            return f"{method.name}: {name!r} is new and not in force: {_FINALIZE}"

        return allows

    def _new_within(self, name: str, arguments: Any, most: int | None = None) -> str:
        """Say that an argument holds a field, or a member of an enum, that members of before cannot read.

        Looked at are the first `most` arguments; None: all. Those after them were not sent.
        """
        if self.is_whole:
            return ""
        values = msgspec.structs.astuple(arguments)[:most]
        projected = [self.project(value) for value in values]
        try:
            again = msgspec.msgpack.decode(_ENCODER.encode([name, *projected]), type=type(arguments))
        except UNREADABLE:
            again = None
        is_known = sorted_bytes(again) == sorted_bytes(arguments)
        if is_known and not self._holds_new_member(projected):
            return ""
        return f"{name}: an argument holds what is new and not in force: {_FINALIZE}"

    # Values

    def project(self, value: Any) -> Any:
        """Return a value that encodes as the interface in force would have it: new fields are left out.

        A member of an enum that is not in force stays what it is: nothing else could stand in its place.
        """
        kind = type(value)
        if kind in _SCALARS:
            return value
        if isinstance(value, msgspec.Struct) or (is_dataclass(value) and not isinstance(value, type)):
            shadow = self._shadows.get(kind)
            if shadow is None:
                shadow = self._shadows[kind] = self._shadow_of(kind)
            return shadow(value)
        if isinstance(value, dict):
            return {self.project(key): self.project(item) for key, item in value.items()}
        if isinstance(value, tuple):
            kept = self._kept(kind, getattr(kind, "_fields", ()))
            return tuple(self.project(item) for item in (value[: len(kept)] if kept else value))
        if isinstance(value, list | set | frozenset):
            return kind(self.project(item) for item in value)
        return value

    def _holds_new_member(self, value: Any) -> bool:
        """Return whether a member of an enum that is not in force stands anywhere in a value."""
        if isinstance(value, Enum):
            return not self._has_member(type(value), value.name)
        if isinstance(value, dict):
            return any(map(self._holds_new_member, chain(value, value.values())))
        if isinstance(value, list | tuple | set | frozenset):
            return any(map(self._holds_new_member, value))
        return any(self._holds_new_member(getattr(value, name)) for name in field_names(value))

    def _has_member(self, kind: type[Any], name: str) -> bool:
        prefix = f"enum {kind.__name__}["
        known = any(key.startswith(prefix) for key in self.interface)
        return not known or f"{prefix}{name}]" in self.interface

    def _kept(self, kind: type[Any], names: tuple[str, ...]) -> list[str]:
        known = [key.partition("[")[2][:-1].split(" ")[-1] for key in self._of_struct(kind)]
        return [name for name in known if name in names]

    def _of_struct(self, kind: type[Any]) -> list[str]:
        return [key for key in self.interface if key.startswith(f"struct {kind.__name__}[")]

    def _shadow_of(self, kind: type[Any]) -> Callable[[Any], Any]:
        """Return what makes, of an instance, one of a struct that has the fields in force and no others."""
        known = bool(self._of_struct(kind))
        if issubclass(kind, msgspec.Struct):
            config = kind.__struct_config__
            of_kind = {field.encode_name: field for field in msgspec.structs.fields(kind)}
            names = kind.__struct_encode_fields__
            kept_fields = [of_kind[name] for name in (self._kept(kind, names) if known else names)]
            fields = [(field.name, field.encode_name, _default_of(field)) for field in kept_fields]
            options: dict[str, Any] = {"array_like": config.array_like, "omit_defaults": config.omit_defaults}
            options |= {"tag": config.tag, "tag_field": config.tag_field}
        else:
            names = tuple(field.name for field in fields_of_dataclass(kind))
            fields = [(name, name, ()) for name in (self._kept(kind, names) if known else names)]
            options = {}
        made = msgspec.defstruct(
            kind.__name__,
            [(name, Any, *default) for name, _, default in fields],
            rename={name: encoded for name, encoded, _ in fields},
            frozen=True,
            kw_only=True,
            **options,
        )
        project, kept = self.project, [name for name, _, _ in fields]
        return lambda value: made(**{name: project(getattr(value, name)) for name in kept})

    # State

    def pieces(self, machine: StateMachine) -> Iterator[bytes]:
        """Yield the machine's snapshot as the interface in force has it."""
        if self.is_whole:
            taken = machine.snapshot()
            yield from (taken,) if isinstance(taken, bytes) else taken
        else:
            yield from self._pieces(machine, "")

    def _pieces(self, machine: StateMachine, prefix: str) -> Iterator[bytes]:
        if "machines" in vars(machine):
            for name, part, below in _parts_of(machine, prefix):
                if any(key.startswith(below) for key in self.interface):
                    yield from framed_part(name, self._pieces(part, below))
        elif saves_itself(type(machine)):
            taken = machine.snapshot()
            yield from (taken,) if isinstance(taken, bytes) else taken
        else:
            require_declared(machine, annotated_state(type(machine)))
            yield _ENCODER.encode(
                [
                    (name, msgspec.Raw(encode_attribute(machine, name, hint, self.project)))
                    for name, hint in self._attributes(machine, prefix)
                ]
            )

    def digest_pieces(self, machine: StateMachine, prefix: str = "") -> Iterator[bytes]:
        """Yield what the digest of the state is made of (`state_digest.digest_pieces`)."""
        if self.is_whole:
            yield from digest_pieces(machine)
        elif "machines" in vars(machine):
            for name, part, below in _parts_of(machine, prefix):
                if any(key.startswith(below) for key in self.interface):
                    yield name.encode()
                    yield from self.digest_pieces(part, below)
        elif not saves_itself(type(machine)):
            for name, hint in sorted(self._attributes(machine, prefix), key=itemgetter(0)):
                yield sorting_encoder_of(hint).encode((name, self.project(getattr(machine, name))))

    def _attributes(self, machine: StateMachine, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, hint in annotated_state(type(machine)).items():
            if f"{prefix}{name}" in self.interface and getattr(machine, name) is not REMOVED:
                yield name, hint

    def expect(self, machine: StateMachine, prefix: str = "") -> None:
        """Let a machine be restored from a snapshot of what is in force, which may lack later parts."""
        if "machines" not in vars(machine):
            return
        lacks = set()
        for name, part, below in _parts_of(machine, prefix):
            if not any(key.startswith(below) for key in self.interface):
                lacks.add(name)
            self.expect(part, below)
        object.__setattr__(machine, "lacks", frozenset(lacks))

    def strip(self, machine: StateMachine) -> None:
        """Take away the attributes that migrations up to this version removed."""
        for part in vars(machine).get("machines", {}).values():
            self.strip(part)
        for name, to in removed_attributes(type(machine)).items():
            if to <= self.version:
                object.__setattr__(machine, name, REMOVED)


def _parts_of(machine: StateMachine, prefix: str) -> Iterator[tuple[str, StateMachine, str]]:
    for name, part in vars(machine)["machines"].items():
        yield name, part, f"{prefix}{name}." if name else prefix


def _default_of(field: Any) -> tuple[Any, ...]:
    if field.default is not msgspec.NODEFAULT:
        return (field.default,)
    if field.default_factory is not msgspec.NODEFAULT:
        return (msgspec.field(default_factory=field.default_factory),)
    return ()
