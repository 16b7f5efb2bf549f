"""What the library reads out of a machine's class: its methods, the types of their arguments, decoders.

A call on the wire is the msgpack array [method, argument, ...]. The arguments of each method are a generated
struct whose tag is the method's name, so one decoder of the union of all of them checks and types any call.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, Union, get_type_hints

import msgspec

from viewstamp.core.errors import ConfigurationError, InvalidCall
from viewstamp.core.messages import UNREADABLE
from viewstamp.machine.canonical import encoder_of, holds_set, sorted_bytes
from viewstamp.machine.evolution import require_evolution, version_of
from viewstamp.machine.nesting import DEPTH_MAX, RESULT_DEPTH_MAX, deeper_than, encode_within, is_bounded
from viewstamp.machine.soundness import require_sound
from viewstamp.machine.state_machine import Command, Operation, StateMachine, annotated_state, require_machine
from viewstamp.machine.struct_fields import trimmer, unknown_finder

Kind = Literal["command", "query"]
KINDS: Final[tuple[Kind, ...]] = ("command", "query")

_ENCODER: Final = msgspec.msgpack.Encoder()
_FIXED_ARRAY: Final = 0x90
_FIXED_ARRAY_MASK: Final = 0xF0
_ARRAY_16: Final = 0xDC
"""How a msgpack array of up to 15 members begins, and one of up to 65,535."""
_NAME: Final[msgspec.msgpack.Decoder[list[Any]]] = msgspec.msgpack.Decoder(list[Any])
_REFUSED_PARAMETERS: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


UNSENDABLE: Final = (ValueError, OverflowError, RecursionError)
"""What the encoder raises beside `TypeError`: for a lone surrogate, an integer over 64 bits, a cycle."""


def unsendable(name: str, error: Exception) -> InvalidCall:
    """Return the error for a caller whose arguments for the method `name` cannot be encoded."""
    return InvalidCall(f"{name}: an argument cannot be sent, so nothing was: {error}", method=name)


class Method:
    """One command or query: how it is called, decoded and answered."""

    __slots__ = (
        "_defaults",
        "_trim",
        "access",
        "arguments",
        "decode_result",
        "encode_arguments",
        "encode_result",
        "function",
        "kind",
        "name",
        "part",
        "result_type",
        "signature",
        "since",
        "unknown_in",
    )

    def __init__(self, owner: type[StateMachine], operation: Operation[Any, Any], part: str) -> None:
        """Read one method of `owner`, which is the part called `part` of a composed machine ("" if not).

        Raises:
            ConfigurationError: the method cannot be called over the wire.
        """
        self.part = part
        self.name = f"{part}.{operation.name}" if part else operation.name
        """As clients call it."""
        self.kind: Kind = "command" if isinstance(operation, Command) else "query"
        self.since = operation.since if isinstance(operation, Command) else 1
        """The lowest version in force under which it may be called."""
        self.function = operation.function
        where = f"{owner.__qualname__}.{operation.name}"
        hints = _hints_of(where, operation.function)
        self.signature = _signature_of(where, operation.function, hints)
        self.access = operation.access
        """Which keys a call touches, and which roles may make it."""
        self.access.check(where, self.signature.parameters)
        self.arguments = _struct_of(where, self.name, self.signature, hints)
        """The struct of the arguments; its tag is `name`."""
        self._defaults = _encoded_defaults(where, self.signature)
        self._trim = trimmer(self.arguments)
        """Leaves out of an argument what is at its default; None: nothing can be left out."""
        self.unknown_in = unknown_finder(self.arguments)
        """Names a field, in an encoded call, that this class does not know; None: there can be none."""
        self.encode_arguments: Callable[[Any], bytes] = _arguments_encoder(self.arguments)
        """Makes the one form in which a command stands in the log: raises `UNREADABLE` for what may not."""
        self.result_type: Any = hints["return"]
        _require_encodable(f"{where}: the result", self.result_type)
        encode = encoder_of(self.result_type).encode
        bounded = is_bounded(self.result_type)
        self.encode_result: Callable[[Any], bytes] = (
            encode if bounded else partial(encode_within, encode, depth=RESULT_DEPTH_MAX)
        )
        self.decode_result: Callable[[bytes], Any] = msgspec.msgpack.Decoder(self.result_type).decode
        """Turns a payload into what the method returned, or raises `msgspec.MsgspecError`."""

    @property
    def has_optional(self) -> bool:
        """Whether an argument has a default."""
        return bool(self._defaults)

    def encode_first(self, arguments: Any, count: int) -> bytes:
        """As `encode_arguments`, with the first `count` of them only: the others have their defaults."""
        values = msgspec.structs.astuple(arguments)[:count]
        data = encoder_of(self.arguments).encode([self.name, *values])
        if not is_bounded(self.arguments) and len(data) > DEPTH_MAX:
            self.encode_arguments(arguments)
        return data

    def given(self, values: Sequence[Any]) -> int:
        """Return how many of these arguments have to be named: what follows them has its default."""
        count = len(values)
        for default in reversed(self._defaults):
            if sorted_bytes(values[count - 1]) != default:
                break
            count -= 1
        return count

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return a call as it goes over the wire.

        Raises:
            InvalidCall: the arguments do not fit the method, or one cannot be encoded.
        """
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidCall(f"{self.name}: {error}; nothing was sent", method=self.name) from None
        bound.apply_defaults()
        try:
            # As it will stand in the log: no server has to know an argument that is left at its default.
            values = [*bound.arguments.values()]
            values = values[: self.given(values)]
            return _ENCODER.encode([self.name, *(values if self._trim is None else map(self._trim, values))])
        except UNSENDABLE as error:
            raise unsendable(self.name, error) from error


class MachineDefinition:
    """A machine's class as the library sees it. Made once for each class, by `of`."""

    __slots__ = ("_decoders", "_encoders", "_finders", "_optional", "cls", "methods")

    def __init__(self, cls: type[StateMachine]) -> None:
        self.cls = cls
        self.methods: dict[str, Method] = {method.name: method for method in _methods_of(cls, "")}
        """By the name that clients use."""
        if not self.methods:
            raise ConfigurationError(f"{cls.__qualname__} has no method marked @command or @query")
        self._decoders = {kind: self._decoder(kind) for kind in KINDS}
        self._optional = {each.arguments: each for each in self.methods.values() if each.has_optional}
        self._encoders = {method.arguments: method.encode_arguments for method in self.methods.values()}
        self._finders = {
            method.arguments: method.unknown_in
            for method in self.methods.values()
            if method.unknown_in is not None
        }
        _require_sound(cls)
        _require_restorable(cls)
        late = [method for method in self.methods.values() if method.since > version_of(cls)]
        if late:
            raise ConfigurationError(
                f"{cls.__qualname__}.{late[0].name} exists since version {late[0].since}: write "
                f"version = {late[0].since} into the class"
            )

    @staticmethod
    def of(machine: type[StateMachine]) -> "MachineDefinition":
        """Return the definition of a machine's class, made once.

        Raises:
            ConfigurationError: the class cannot be replicated; the message says why.
        """
        require_machine(machine)
        known = _DEFINITIONS.get(machine)
        if known is None:
            known = _DEFINITIONS[machine] = MachineDefinition(machine)
        return known

    def decoder(self, kind: Kind) -> Callable[[Any], Any]:
        """Return the function that turns an encoded call of this kind into its `arguments` struct.

        It raises what msgspec raises (`core.messages.UNREADABLE`); `explain` makes a sentence of that.
        """
        return self._decoders[kind]

    def arguments_of(self, kind: Kind) -> tuple[type[msgspec.Struct], ...]:
        """Return the structs of the arguments of all methods of this kind."""
        return tuple(method.arguments for method in self.methods.values() if method.kind == kind)

    def encodes_alike(self, kind: Kind) -> bool:
        """Return whether a plain encoder makes the canonical form of all these: no set, no open depth."""
        return all(self._encoders[arguments] == _ENCODER.encode for arguments in self.arguments_of(kind))

    def decode(self, kind: Kind, payload: Any) -> Any:
        """Return the arguments struct of an encoded call.

        Raises:
            InvalidCall: there is no such method, or the arguments are not what it takes.
        """
        try:
            arguments = self._decoders[kind](payload)
            self.canonical(arguments)
        except UNREADABLE as error:
            raise InvalidCall(self.explain(kind, payload, error)) from None
        if unknown := self.unknown(arguments, payload):
            raise InvalidCall(
                f"{type(arguments).__struct_config__.tag}: an argument holds {unknown}, which the class of "
                "this server does not know; nothing was done: leave it at its default, or deploy the "
                "client's class on all servers first"
            )
        return arguments

    def unknown(self, arguments: Any, payload: Any) -> str:
        """Return a field, in a call that was decoded, that this class does not know, and so would lose."""
        find = self._finders.get(type(arguments))
        return "" if find is None else find(payload)

    def finds_unknown(self, kind: Kind) -> bool:
        """Return whether any method of this kind takes what may have unknown fields."""
        return any(arguments in self._finders for arguments in self.arguments_of(kind))

    def canonical(self, arguments: Any, payload: Any = None) -> bytes:
        """Return the one encoding of a decoded call, which is what the log holds.

        Of a call that came as `payload` it names as many arguments as that does: a copy that another leader
        takes in, whose class has more optional ones, must have the same bytes.

        It raises what msgspec raises where an argument is nested deeper than `nesting.DEPTH_MAX`.
        """
        kind = type(arguments)
        if payload is not None and kind in self._optional:
            count = arity_of(payload)
            if count < len(kind.__struct_fields__):
                return self._optional[kind].encode_first(arguments, count)
        return self._encoders[kind](arguments)

    @property
    def has_optional(self) -> bool:
        """Whether any method has an argument with a default."""
        return bool(self._optional)

    def explain(self, kind: Kind, payload: Any, error: Exception) -> str:
        """Say in one line what is wrong with a call that could not be decoded."""
        try:
            parts = _NAME.decode(payload)
        except UNREADABLE:
            return f"not a call: {error}"
        name = parts[0] if parts and isinstance(parts[0], str) else ""
        method = self.methods.get(name)
        if method is None:
            known = ", ".join(known for known, method in self.methods.items() if method.kind == kind)
            return f"no {kind} is called {name[:100]!r}; there are: {known}"
        if method.kind != kind:
            return f"{name} is a {method.kind}, not a {kind}"
        return f"{name}: {error}"

    def _decoder(self, kind: Kind) -> Callable[[Any], Any]:
        structs = self.arguments_of(kind)
        if not structs:
            return partial(_refuse_all, kind)
        return msgspec.msgpack.Decoder(Union[structs]).decode  # noqa: UP007  a union made while running


_DEFINITIONS: Final[dict[type[StateMachine], MachineDefinition]] = {}


def arity_of(payload: Any) -> int:
    """Return how many arguments an encoded call names, whatever they are."""
    head = memoryview(payload)[:5].tobytes()
    if head[0] & _FIXED_ARRAY_MASK == _FIXED_ARRAY:
        return (head[0] & ~_FIXED_ARRAY_MASK & 0xFF) - 1
    return int.from_bytes(head[1 : 3 if head[0] == _ARRAY_16 else 5], "big") - 1


def _refuse_all(kind: str, _payload: Any) -> Any:
    raise msgspec.ValidationError(f"this machine has no {kind}")


def _methods_of(cls: type[StateMachine], part: str) -> Iterator[Method]:
    if cls.parts:
        for name, inner in cls.parts.items():
            yield from _methods_of(inner, ".".join(filter(None, (part, name))))
        return
    for name in sorted(dir(cls)):
        operation = inspect.getattr_static(cls, name)
        if isinstance(operation, Operation):
            _require_own_name(cls, name, operation)
            yield Method(cls, operation, part)


def _require_own_name(cls: type[StateMachine], name: str, operation: Operation[Any, Any]) -> None:
    where = f"{cls.__qualname__}.{name}"
    if name.startswith("_") or hasattr(StateMachine, name):
        raise ConfigurationError(f"{where}: this name cannot be a {operation.kind}: choose another one")
    if not inspect.isfunction(operation.function):
        raise ConfigurationError(f"{where}: @{operation.kind} goes on an ordinary method")
    if operation.name != name:
        raise ConfigurationError(f"{where}: its function is called {operation.name!r}: give both one name")
    if inspect.iscoroutinefunction(operation.function) or inspect.isgeneratorfunction(operation.function):
        raise ConfigurationError(
            f"{where}: a {operation.kind} is synchronous and returns: no async, no yield"
        )


def _hints_of(where: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise ConfigurationError(f"{where}: an annotation cannot be read: {error}") from None
    if "return" not in hints:
        raise ConfigurationError(f"{where}: say what it returns, such as -> None")
    return hints


def _signature_of(where: str, function: Callable[..., Any], hints: Mapping[str, Any]) -> inspect.Signature:
    """Return the signature without self."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in _REFUSED_PARAMETERS:
            raise ConfigurationError(f"{where}: {parameter} cannot be sent: name each argument")
        if parameter.name not in hints:
            raise ConfigurationError(f"{where}: say the type of {parameter.name!r}")
        _require_encodable(f"{where}: argument {parameter.name!r}", hints[parameter.name])
    return inspect.Signature(parameters)


def _struct_of(
    where: str, tag: str, signature: inspect.Signature, hints: Mapping[str, Any]
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter in signature.parameters.values():
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hints[parameter.name]))
        else:
            make = partial(copy.deepcopy, parameter.default)
            fields.append((parameter.name, hints[parameter.name], msgspec.field(default_factory=make)))
    try:
        return msgspec.defstruct(
            f"Arguments_{tag}",
            fields,
            tag=tag,
            tag_field="viewstamp method",
            array_like=True,
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _arguments_encoder(arguments: type[msgspec.Struct]) -> Callable[[Any], bytes]:
    # A set has no order of its own, so it is sorted: a copy of the command must have the same bytes.
    encode = encoder_of(arguments).encode if holds_set(arguments) else _ENCODER.encode
    if is_bounded(arguments):
        return encode

    def encode_bounded(value: Any) -> bytes:
        data = encode(value)
        if len(data) > DEPTH_MAX and deeper_than(value, DEPTH_MAX + 1):
            raise msgspec.ValidationError(f"an argument is nested deeper than {DEPTH_MAX}")
        return data

    return encode_bounded


def _encoded_defaults(where: str, signature: inspect.Signature) -> list[bytes]:
    defaults = [p.default for p in signature.parameters.values() if p.default is not p.empty]
    try:
        return [sorted_bytes(default) for default in defaults]
    except (TypeError, *UNSENDABLE) as error:
        raise ConfigurationError(f"{where}: a default cannot be sent: {error}") from None


def _require_encodable(where: str, hint: Any) -> None:
    try:
        msgspec.msgpack.Decoder(hint)
        kinds = set(_custom_types(msgspec.inspect.type_info(hint)))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where} has a type that cannot be sent: {error}") from None
    if kinds:
        names = ", ".join(sorted(kinds))
        raise ConfigurationError(f"{where} has a type that cannot be sent: {names}; use a msgspec.Struct")


def _custom_types(info: Any) -> Iterator[str]:
    if isinstance(info, msgspec.inspect.CustomType):
        yield getattr(info.cls, "__name__", repr(info.cls))
    for child in _item_types(info):
        yield from _custom_types(child)


def _item_types(info: Any) -> Iterable[Any]:
    single = (getattr(info, name, None) for name in ("item_type", "key_type", "value_type"))
    yield from (child for child in single if child is not None)
    yield from getattr(info, "item_types", ())
    yield from getattr(info, "types", ())


def _require_types(cls: type[StateMachine]) -> None:
    """Name the attribute whose type cannot be saved, before a snapshot would."""
    for name, hint in annotated_state(cls).items():
        _require_encodable(f"{cls.__qualname__}.{name}", hint)


def _require_sound(cls: type[StateMachine]) -> None:
    for part in cls.parts.values():
        _require_sound(part)
    if not cls.parts:
        require_evolution(cls, annotated_state(cls))
        require_sound(cls)


def _require_restorable(cls: type[StateMachine]) -> None:
    """Make an instance, and another from its snapshot: what fails here would fail after a crash."""
    machine, again = _instance(cls), _instance(cls)
    own_snapshot = cls.snapshot is not StateMachine.snapshot
    if own_snapshot != (cls.restore is not StateMachine.restore):
        raise ConfigurationError(f"{cls.__qualname__}: override snapshot and restore together, or neither")
    if not own_snapshot:
        _require_declared(cls, machine)
        _require_types(cls)
    try:
        taken = machine.snapshot()
        again.restore(taken if isinstance(taken, bytes) else b"".join(taken))
    except Exception as error:  # noqa: BLE001  the user's code may raise anything
        raise ConfigurationError(f"{cls.__qualname__}: its snapshot cannot be restored: {error}") from None


def _instance(cls: type[StateMachine]) -> StateMachine:
    try:
        return cls()
    except Exception as error:  # noqa: BLE001  the user's code may raise anything
        raise ConfigurationError(f"{cls.__qualname__}() cannot be made without arguments: {error}") from None


def _require_declared(cls: type[StateMachine], machine: StateMachine) -> None:
    declared = annotated_state(cls)
    for name in declared:
        if not hasattr(machine, name):
            raise ConfigurationError(f"{cls.__qualname__}.{name}: give it a default")
    for name in vars(machine):
        if name not in declared:
            raise ConfigurationError(
                f"{cls.__qualname__}.{name} would be missing from snapshots: annotate it in the class"
            )
