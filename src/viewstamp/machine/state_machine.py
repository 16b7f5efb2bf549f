"""What a user writes: a class derived from `StateMachine`, its methods marked `@command` and `@query`.

`compose` makes one machine of several. `command` and `query` are descriptors: on an instance they are the
plain method, on the class they carry the types from which a client's proxy is typed.
"""

import copy
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    get_type_hints,
    overload,
)

from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.access import NOT_DECLARED, Access
from viewstamp.machine.context import Context, Notification, running_at
from viewstamp.machine.default_snapshot import decode_state, encode_state

__all__ = [
    "Command",
    "Context",
    "Notification",
    "Query",
    "StateMachine",
    "command",
    "compose",
    "query",
    "running_at",
]

_FRAME_BYTES: Final = 8


class StateMachine:
    """An ordinary deterministic class whose methods marked `@command` and `@query` clients may call.

    The state is the annotated attributes. Defaults that can change, such as a dict, are copied by instance.
    Commands must depend on nothing but the state, their arguments and `self.context`.
    """

    version: ClassVar[int] = 1
    """The version that this code can do; which one is in force stands in the log (`machine.evolution`)."""
    __context: Context | None = None
    __declared: ClassVar[frozenset[str]] = frozenset()
    """Names of the annotated state, once it was read: most assignments need no other look."""
    parts: ClassVar[Mapping[str, type["StateMachine"]]] = {}
    """Of a composed machine: its parts by name; the part called "" keeps its methods' own names."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Give the instance its own copies of the class's defaults."""
        machine = super().__new__(cls)
        for name in annotated_state(cls):
            if hasattr(cls, name):
                setattr(machine, name, copy.deepcopy(getattr(cls, name)))
        return machine

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A class that saves itself answers for its attributes: assigning costs it no check."""
        super().__init_subclass__(**kwargs)
        if saves_itself(cls) and cls.__setattr__ is StateMachine.__setattr__:
            cls.__setattr__ = object.__setattr__  # type: ignore[method-assign,assignment]

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse what no snapshot would hold, and any change in a query.

        A command that does this fails alike on every replica.
        """
        if name not in self.__declared and not _may_be_set(cls := type(self), name):
            raise AttributeError(
                f"{cls.__qualname__}.{name} is not declared and would be missing from snapshots: "
                f"annotate it in the class, such as {name}: {type(value).__name__} = ..."
            )
        context = self.__context
        if context is not None and context.reading and context.running:
            raise AttributeError(_in_query(self, name))
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        """Refuse in a query what would change the state."""
        if self.__context is not None and self.__context.reading and self.__context.running:
            raise AttributeError(_in_query(self, name))
        object.__delattr__(self, name)

    @property
    def context(self) -> Context:
        """The context of the command that runs now: its time, client, random numbers.

        Raises:
            RuntimeError: none runs.
        """
        context = self.__context
        if context is None or not context.running:
            raise RuntimeError(
                "self.context exists while a replica runs a command; in a test use running_at()"
            )
        return context

    def bind_context(self, context: Context | None) -> None:
        """Lend or take away what `context` returns while it runs. For the replica, and for `running_at`."""
        object.__setattr__(self, "_StateMachine__context", context)  # a query may run meanwhile, in a test

    def snapshot(self) -> bytes | Iterable[bytes]:
        """Return the whole state, in one piece or in pieces that are made while they are consumed.

        Override it together with `restore` where the state is large or is not in annotated attributes.
        """
        return encode_state(self, annotated_state(type(self)))

    def restore(self, snapshot: bytes) -> None:
        """Set the state of a fresh instance to what `snapshot` returned; the pieces come joined.

        Raises:
            ValueError: these bytes are not a snapshot of this machine.
        """
        decode_state(self, annotated_state(type(self)), snapshot)

    def session_ended(self, client: int) -> None:
        """Called, on every replica alike, when a client's session is closed or has expired."""

    def next_alarm(self) -> int | None:
        """Return the log time, in microseconds, at which `alarm` is to be called; None: not as things are.

        Override both where something must happen although no client asks for it, such as the end of a lease.
        """
        return None

    def alarm(self) -> None:
        """Called, on every replica alike, by the first entry whose log time has reached `next_alarm`.

        The leader orders such an entry when it is due. The call has a token of its own, as a command has, and
        is repeated while another alarm is due.
        """

    def life_begins(self) -> None:
        """Called when a restored state goes on as another cluster, under a token beyond all earlier ones."""

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        """Return (client, event) of all that should be sent again to clients that may have missed it."""
        return ()

    def pending_notifications_for(self, clients: Collection[int]) -> Iterable[tuple[int, Any]]:
        """Return what of that is for these clients, which have just come to the replica that leads.

        Override it where the machine can say so without looking through everything.
        """
        return [(client, event) for client, event in self.pending_notifications() if client in clients]


def has_alarms(cls: type[StateMachine]) -> bool:
    """Return whether a class, or a part of it, may have an alarm."""
    if cls.parts:
        return any(has_alarms(part) for part in cls.parts.values())
    return cls.next_alarm is not StateMachine.next_alarm


def _in_query(machine: StateMachine, name: str) -> str:
    return f"a query may not change {type(machine).__qualname__}.{name}: make it a command"


_STATES: Final[dict[type[StateMachine], Mapping[str, Any]]] = {}


def annotated_state(cls: type[StateMachine]) -> Mapping[str, Any]:
    """Return the attributes that are the state of this class, with their types, in order of definition.

    Raises:
        ConfigurationError: an annotation cannot be read.
    """
    known = _STATES.get(cls)
    if known is None:
        known = _STATES[cls] = _read_state(cls)
        cls._StateMachine__declared = frozenset(known)  # type: ignore[attr-defined]
    return known


def _read_state(cls: type[StateMachine]) -> Mapping[str, Any]:
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise ConfigurationError(f"{cls.__qualname__}: an annotation cannot be read: {error}") from None
    return {name: hint for name, hint in hints.items() if not _is_ours(name) and not _is_class_variable(hint)}


def saves_itself(cls: type[StateMachine]) -> bool:
    """Return whether the class overrides `snapshot` and `restore`, and so answers for its own attributes."""
    return cls.snapshot is not StateMachine.snapshot and cls.restore is not StateMachine.restore


def _may_be_set(cls: type[StateMachine], name: str) -> bool:
    if name in annotated_state(cls) or _is_ours(name):
        return True
    return hasattr(type(inspect.getattr_static(cls, name, None)), "__set__")


def _is_ours(name: str) -> bool:
    return name.startswith("_StateMachine__")


def _is_class_variable(hint: Any) -> bool:
    return hint is ClassVar or getattr(hint, "__origin__", None) is ClassVar


class _Composition(StateMachine):
    """A machine made of named machines. Its own state is that of its parts."""

    lacks: ClassVar[frozenset[str]] = frozenset()
    """Parts that a snapshot may lack, because the class got them later."""

    def __init__(self) -> None:
        self.machines: dict[str, StateMachine] = {name: part() for name, part in self.parts.items()}

    def bind_context(self, context: Context | None) -> None:
        super().bind_context(context)
        for machine in self.machines.values():
            machine.bind_context(context)

    def snapshot(self) -> Iterable[bytes]:
        """Yield each part: its name framed, its pieces framed, then an empty frame."""
        for name, machine in self.machines.items():
            pieces = machine.snapshot()
            yield from framed_part(name, (pieces,) if isinstance(pieces, bytes) else pieces)

    def restore(self, snapshot: bytes) -> None:
        found = _split_parts(snapshot)
        wanted = {_framed_name(name): machine for name, machine in self.machines.items()}
        if not set(wanted) - set(map(_framed_name, self.lacks)) <= set(found) <= set(wanted):
            raise ValueError(f"a snapshot of {sorted(found)}, not of {sorted(wanted)}")
        for name, machine in wanted.items():
            if name in found:  # a part that the class got later begins as it is
                machine.restore(found[name])

    def session_ended(self, client: int) -> None:
        for machine in self.machines.values():
            machine.session_ended(client)

    def next_alarm(self) -> int | None:
        alarms = [each.next_alarm() for each in self.machines.values()]
        return min((moment for moment in alarms if moment is not None), default=None)

    def alarm(self) -> None:
        """Let the first part ring whose moment is the earliest."""
        earliest = self.next_alarm()
        part = next(each for each in self.machines.values() if each.next_alarm() == earliest)
        part.alarm()

    def life_begins(self) -> None:
        for machine in self.machines.values():
            machine.life_begins()

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        for machine in self.machines.values():
            yield from machine.pending_notifications()

    def pending_notifications_for(self, clients: Collection[int]) -> Iterable[tuple[int, Any]]:
        for machine in self.machines.values():
            yield from machine.pending_notifications_for(clients)


def framed_part(name: str, pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Yield a part of a composed machine's snapshot."""
    yield _frame(_framed_name(name))
    for piece in pieces:
        if piece:
            yield _frame(piece)
    yield _frame(b"")


def _framed_name(name: str) -> bytes:
    # No part's name has a dot; an empty frame would end the part.
    return name.encode() or b"."


def _frame(piece: bytes) -> bytes:
    return len(piece).to_bytes(_FRAME_BYTES, "big") + piece


def _split_parts(snapshot: bytes) -> dict[bytes, bytes]:
    """Return the bytes of each part by name; raise ValueError where the frames do not add up."""
    parts: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    for frame in _frames(snapshot):
        if frame:
            pieces.append(frame)
        elif pieces:
            parts[pieces[0]] = b"".join(pieces[1:])
            pieces = []
    if pieces:
        raise ValueError("the snapshot of a composed machine ends inside a part")
    return parts


def _frames(snapshot: bytes) -> Iterable[bytes]:
    offset = 0
    while offset < len(snapshot):
        start = offset + _FRAME_BYTES
        offset = start + int.from_bytes(snapshot[offset:start], "big")
        if offset > len(snapshot):
            raise ValueError("the snapshot of a composed machine is cut short")
        yield snapshot[start:offset]


def require_machine(machine: object) -> None:
    """Raise `ConfigurationError` unless this is a machine's class."""
    if not (isinstance(machine, type) and issubclass(machine, StateMachine)):
        raise ConfigurationError(f"{machine!r} is not a class derived from viewstamp.StateMachine")


def compose(main: type[StateMachine] | None = None, /, **parts: type[StateMachine]) -> type[StateMachine]:
    """Return a machine that replicates several as one; their methods are called `part.method`.

    The methods of `main`, if it is given, keep their own names: its clients see no difference.

    Raises:
        ConfigurationError: there is no part, or one is not a `StateMachine`, or `main` has parts itself
            or an attribute with the name of a part.
    """
    every = parts if main is None else {"": main, **parts}
    if not every:
        raise ConfigurationError("compose() needs at least one part, such as compose(kv=KeyValueStore)")
    for part in every.values():
        require_machine(part)
    taken = [name for name in parts if main is not None and (main.parts or hasattr(main, name))]
    if taken:
        raise ConfigurationError(f"compose(): the main part has no room for a part called {taken[0]!r}")
    title = "And".join(part.__name__ for part in every.values())
    return type(title, (_Composition,), {"parts": every, "__module__": __name__})


P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Operation(Generic[P, R]):
    """A method that clients may call."""

    kind = "operation"

    def __init__(self, function: Callable[Concatenate[Any, P], R], access: Access = NOT_DECLARED) -> None:
        self.function = function
        self.access = access
        """What the class says of its keys and callers."""
        self.name: str = getattr(function, "__name__", "")
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Callable[P, R]: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> Self | Callable[P, R]:
        """Return the plain method of an instance, or this object for the class."""
        if instance is None:
            return self
        method: Callable[P, R] = self.function.__get__(instance, owner)
        return method

    def __call__(self, *_args: P.args, **_kwargs: P.kwargs) -> Awaitable[R]:
        """Stand for the call through a client's proxy, which is typed as the class."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(f"{self.name} is called on a machine, or on the proxy that connect() returns")


class Command(Operation[P, R]):
    """A method that changes the machine: it is ordered by the log and runs on every replica."""

    kind = "command"

    def __init__(
        self, function: Callable[Concatenate[Any, P], R], access: Access = NOT_DECLARED, *, since: int = 1
    ) -> None:
        super().__init__(function, access)
        self.since = since
        """The lowest version in force under which it may be called."""


class Query(Operation[P, R]):
    """A method that only reads: it runs on one replica, at a moment when that is safe."""

    kind = "query"


class _Marks(Protocol):
    """Makes a command of a method."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Command[P, R]: ...


class _MarksQuery(Protocol):
    """Makes a query of a method."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Query[P, R]: ...


@overload
def command(function: Callable[Concatenate[Any, P], R], /) -> Command[P, R]: ...


@overload
def command(
    *,
    keys: Iterable[str] | None = None,
    prefixes: Iterable[str] = (),
    ranges: Iterable[tuple[str, str]] = (),
    roles: Iterable[str] = (),
    frees: bool = False,
    since: int = 1,
) -> _Marks: ...


def command(
    function: Callable[Concatenate[Any, P], R] | None = None,
    /,
    *,
    keys: Iterable[str] | None = None,
    prefixes: Iterable[str] = (),
    ranges: Iterable[tuple[str, str]] = (),
    roles: Iterable[str] = (),
    frees: bool = False,
    since: int = 1,
) -> Command[P, R] | _Marks:
    """Let clients call this method through the log; arguments and result are types that msgspec knows.

    Args:
        function: the method, where the decorator stands without parentheses.
        keys: arguments, or paths into them such as `order.id`, that are the keys which it reads or writes:
            grants with prefixes are checked against them. `()`: it touches no key. None: not declared, so
            that only a grant without prefixes covers it.
        prefixes: arguments that stand for all keys that begin with them.
        ranges: pairs of arguments, the first key and the end, which is not in the range.
        roles: roles, such as `operator`, or globs of principals that may call it; empty: every caller. It is
            checked where the command enters and again, on each replica, where it is executed.
        frees: it gives room back, as a removal or a release does: it is taken even where the disk of the
            server is nearly full.
        since: it is refused, and nothing is executed, before this version of the class is in force.
    """
    access = _access(keys, prefixes, ranges, roles, frees=frees)
    if function is None:
        return partial(Command, access=access, since=since)
    return Command(function, access, since=since)


@overload
def query(function: Callable[Concatenate[Any, P], R], /) -> Query[P, R]: ...


@overload
def query(
    *,
    keys: Iterable[str] | None = None,
    prefixes: Iterable[str] = (),
    ranges: Iterable[tuple[str, str]] = (),
    roles: Iterable[str] = (),
) -> _MarksQuery: ...


def query(
    function: Callable[Concatenate[Any, P], R] | None = None,
    /,
    *,
    keys: Iterable[str] | None = None,
    prefixes: Iterable[str] = (),
    ranges: Iterable[tuple[str, str]] = (),
    roles: Iterable[str] = (),
) -> Query[P, R] | _MarksQuery:
    """Let clients call this method, which must not change the machine. The arguments are `command`'s."""
    access = _access(keys, prefixes, ranges, roles)
    return partial(Query, access=access) if function is None else Query(function, access)


def _access(
    keys: Iterable[str] | None,
    prefixes: Iterable[str],
    ranges: Iterable[tuple[str, str]],
    roles: Iterable[str],
    *,
    frees: bool = False,
) -> Access:
    declared = None if keys is None else _names(keys)
    return Access(declared, _names(prefixes), tuple(ranges), _names(roles), frees)


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
