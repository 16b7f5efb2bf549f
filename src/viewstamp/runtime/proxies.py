"""Typed proxies: an object with the machine's own methods, each of which makes a call.

Nothing is looked up by a name that came over a network: a proxy's methods are made from the machine's class.
For a type checker the async proxy is the class itself, whose commands and queries are typed as returning
awaitables of their results, and the blocking proxy is an instance, whose methods return results.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Literal, NoReturn, Protocol, TypeVar, cast

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.definition import UNSENDABLE, MachineDefinition, Method, unsendable
from viewstamp.machine.state_machine import StateMachine, annotated_state, compose
from viewstamp.runtime.client_base import Errors
from viewstamp.runtime.system import check_timeout_s

Reads = Literal["linearizable", "stale"]
CallKind = Literal["command", "linearizable", "stale"]
P = TypeVar("P")

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_BINDING: Final = "_viewstamp_binding"
_STATE: Final = "_viewstamp_state"


class Caller(Protocol):
    """Makes calls: an async or a blocking client."""

    def invoke(
        self, kind: CallKind, payload: bytes, *, timeout_s: float | None, method: Method, errors: Errors
    ) -> Any:
        """Return the decoded result, or an awaitable of it."""
        ...


class Binding:
    """What a proxy calls through, and with which options."""

    __slots__ = ("caller", "errors", "reads", "timeout_s")

    def __init__(
        self, caller: Caller, errors: Errors, *, timeout_s: float | None = None, reads: Reads = "linearizable"
    ) -> None:
        self.caller = caller
        self.errors = errors
        self.timeout_s = timeout_s
        """None: the client's own."""
        self.reads: Reads = reads


class Proxy:
    """The base of all proxies. Its subclasses are made by `make_proxy`."""

    __slots__ = (_BINDING,)

    _viewstamp_binding: Binding

    def __init__(self, binding: Binding) -> None:
        object.__setattr__(self, _BINDING, binding)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name} through a proxy: call a command, nothing was changed")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} has no {name!r}: {_advice(type(self), name)}")

    def __dir__(self) -> list[str]:
        return [name for name in dir(type(self)) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _advice(cls: type[Proxy], name: str) -> str:
    state: frozenset[str] = vars(cls).get(_STATE, frozenset())
    if name in state:
        return "it is state of the machine, which a client reads through a query and changes by a command"
    offered = [each for each in dir(cls) if not each.startswith("_")]
    return f"it offers {', '.join(offered)}"


def make_proxy(
    machine: type[StateMachine], caller: Caller, *, reads: Reads = "linearizable", part: str = ""
) -> Any:
    """Return a proxy of this machine, or of it as the part `part` of another, that calls through `caller`.

    Raises:
        ConfigurationError: the class cannot be replicated.
    """
    definition = MachineDefinition.of(machine)
    if part:
        definition = _as_part(definition, part)
    proxy = _proxy_class(definition)(Binding(caller, Errors(definition.cls), reads=reads))
    return getattr(proxy, part) if part else proxy


def with_options(proxy: P, *, timeout_s: float | None = None, reads: Reads | None = None) -> P:
    """Return a proxy of the same client with other options; None leaves one as it is.

    `timeout_s` bounds each call. `reads` is "linearizable", or "stale": answered at once by whichever server,
    from what it has applied so far.

    Raises:
        ConfigurationError: an option cannot be used, or `proxy` is none.
    """
    old = binding_of(proxy)
    if timeout_s is not None:
        check_timeout_s(timeout_s)
    if reads not in {None, "linearizable", "stale"}:
        raise ConfigurationError(f"reads is {reads!r}: choose 'linearizable' or 'stale'")
    new = Binding(
        old.caller,
        old.errors,
        timeout_s=old.timeout_s if timeout_s is None else timeout_s,
        reads=reads or old.reads,
    )
    return cast("P", cast("Any", type(proxy))(new))


def binding_of(proxy: object) -> Binding:
    """Return what a proxy calls through; `ConfigurationError` where it is not a proxy."""
    if not isinstance(proxy, Proxy):
        raise ConfigurationError(f"{proxy!r} is not a proxy: use what connect() returned")
    return proxy._viewstamp_binding  # noqa: SLF001  the name is long so that machines may have a `binding`


@cache
def _as_part(definition: MachineDefinition, part: str) -> MachineDefinition:
    return MachineDefinition.of(compose(**{part: definition.cls}))


@cache
def _proxy_class(definition: MachineDefinition) -> type[Proxy]:
    methods = {tuple(name.split(".")): method for name, method in definition.methods.items()}
    return _class_of(definition.cls.__name__, methods, frozenset(annotated_state(definition.cls)))


def _class_of(
    name: str, methods: Mapping[tuple[str, ...], Method], state: frozenset[str] = frozenset()
) -> type[Proxy]:
    """Make a class with these methods; those of a part hang on a proxy of their own."""
    members: dict[str, Any] = {"__slots__": (), _STATE: state}
    parts: dict[str, dict[tuple[str, ...], Method]] = {}
    for path, method in methods.items():
        if len(path) == 1:
            members[path[0]] = _calling(method)
        else:
            parts.setdefault(path[0], {})[path[1:]] = method
    for part, inner in parts.items():
        members[part] = _part(_class_of(f"{name}.{part}", inner))
    return type(f"{name}Proxy", (Proxy,), members)


def _part(cls: type[Proxy]) -> property:
    def part(self: Proxy) -> Proxy:
        return cls(binding_of(self))

    return property(part)


def _calling(method: Method) -> Callable[..., Any]:
    """Return the function that calls this method from afar."""
    name = method.name
    parameters = method.signature.parameters.values()
    positional = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    arity = len(parameters) if positional else -1
    is_command = method.kind == "command"

    def call(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        binding = self._viewstamp_binding
        plain = not kwargs and len(args) == arity
        try:
            payload = _ENCODE((name, *args)) if plain else method.encode_call(args, kwargs)
        except UNSENDABLE as error:
            raise unsendable(name, error) from error
        kind: CallKind = "command" if is_command else binding.reads
        return binding.caller.invoke(
            kind, payload, timeout_s=binding.timeout_s, method=method, errors=binding.errors
        )

    call.__name__ = call.__qualname__ = name
    call.__doc__ = method.function.__doc__
    call.__signature__ = _signature_of(method)  # type: ignore[attr-defined]
    return call


def _signature_of(method: Method) -> inspect.Signature:
    """Return what `inspect.signature` and an editor are told: the method's own parameters and result."""
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = method.signature.parameters.values()
    return inspect.Signature([itself, *parameters], return_annotation=method.result_type)
