"""Calls whose answer differs from replica to replica, and what a command uses instead.

Resolved by identity, so that an alias or an import under another name is found as well.
"""

import random
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any, Final

_TIME: Final = "self.context.now, or pass the time as an argument"
_CHANCE: Final = "self.context.random"
_ARGUMENT: Final = "pass it as an argument"
INSTEAD: Final[dict[str, tuple[str, ...]]] = {
    _TIME: (
        "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
        "time.perf_counter_ns", "time.process_time", "time.localtime", "time.sleep", "datetime.datetime.now",
        "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
    ),
    _CHANCE: (
        "uuid.uuid1", "uuid.uuid4", "os.urandom", "secrets.token_bytes", "secrets.token_hex",
        "secrets.token_urlsafe", "secrets.randbelow", "secrets.choice", "secrets.randbits",
    ),
    _ARGUMENT: (
        "builtins.open", "builtins.input", "builtins.id", "os.getpid", "os.getenv", "os.listdir",
        "socket.socket", "socket.gethostname", "subprocess.run", "subprocess.Popen", "threading.get_ident",
    ),
}  # fmt: skip
"""By what to use instead: the calls, as module and qualified name."""
_BY_NAME: Final = {name: instead for instead, names in INSTEAD.items() for name in names}


def instead_of(called: Any) -> tuple[str, str] | None:
    """Return (its name, what to use instead) of a callable that differs between replicas; None: none."""
    owner = getattr(called, "__self__", None)
    if isinstance(owner, random.Random):
        return f"{type(owner).__name__}.{called.__name__}", _CHANCE
    name = _name_of(called, owner)
    return (name, _BY_NAME[name]) if name in _BY_NAME else None


def advances_itself(called: Any) -> bool:
    """Return whether a callable is a method bound to an iterator or a container, which it may change."""
    owner = getattr(called, "__self__", None)
    if not isinstance(called, (BuiltinMethodType, MethodType)) and type(called).__name__ != "method-wrapper":
        return False
    return hasattr(type(owner), "__next__") or isinstance(owner, (list, dict, set, bytearray))


def _name_of(called: Any, owner: Any) -> str:
    qualified = getattr(called, "__qualname__", "")
    if isinstance(owner, ModuleType):
        return f"{_public(owner.__name__)}.{qualified}"
    if isinstance(owner, type):
        return f"{_public(owner.__module__)}.{owner.__qualname__}.{getattr(called, '__name__', '')}"
    if isinstance(called, (FunctionType, type)):
        return f"{_public(called.__module__)}.{qualified}"
    return f"{_public(getattr(called, '__module__', None) or '')}.{qualified}"


def _public(module: str) -> str:
    return {"posix": "os", "nt": "os", "io": "builtins", "_io": "builtins", "_thread": "threading"}.get(
        module, module
    )
