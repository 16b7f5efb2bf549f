"""Calls whose answer differs from replica to replica, and what a command uses instead.

Resolved by identity, so that an alias or an import under another name is found as well. No module of the
tables is imported for this: what nobody has imported nobody can call.
"""

import io
import random
import sys
from collections.abc import Iterator
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from viewstamp.machine.rules import CLOCK, ENTROPY, HOST, IDENTITY, INPUT_OUTPUT, THREAD, Rule

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
"""By what to use instead: the calls, as module and qualified name, for which no class is served at all."""
_BY_NAME: Final = {name: instead for instead, names in INSTEAD.items() for name in names}

BY_RULE: Final[dict[Rule, tuple[str, ...]]] = {
    CLOCK: (
        "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
        "time.perf_counter_ns", "time.process_time", "time.process_time_ns", "time.thread_time",
        "time.thread_time_ns", "time.clock_gettime", "time.clock_gettime_ns", "time.sleep",
        "time.get_clock_info", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
        "datetime.date.today", "email.utils.localtime", "asyncio.sleep",
    ),
    ENTROPY: (
        "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "uuid.uuid8", "uuid.getnode", "os.urandom",
        "os.getrandom", "ssl.RAND_bytes", "random.SystemRandom",
        "tempfile.mktemp", "numpy.random.default_rng",
    ),
    IDENTITY: (
        "builtins.id", "builtins.hash", "sys.getsizeof", "sys.getrefcount", "gc.get_objects", "gc.collect",
        "gc.get_count", "gc.get_referrers", "weakref.ref", "weakref.proxy", "weakref.WeakValueDictionary",
        "weakref.WeakKeyDictionary", "weakref.WeakSet", "weakref.finalize", "weakref.ReferenceType",
        "weakref.ProxyType", "weakref.CallableProxyType", "weakref.getweakrefcount",
        "builtins.object.__hash__",
        "builtins.str.__hash__", "builtins.bytes.__hash__", "tracemalloc.get_traced_memory", "sys._getframe",
        "sys.getallocatedblocks",
    ),
    HOST: (
        "os.getenv", "os.getpid", "os.getppid", "os.cpu_count", "os.uname", "os.getcwd", "os.getlogin",
        "os.getuid", "os.geteuid", "os.getgid", "os.getloadavg", "os.times", "os.ctermid", "os.getpgid",
        "os.getcwdb", "os.sched_getaffinity", "os.process_cpu_count", "socket.gethostname", "socket.getfqdn",
        "time.localtime", "time.mktime", "time.tzset", "time.ctime", "sys.getrecursionlimit",
        "sys.getdefaultencoding", "sys.getfilesystemencoding", "sys.setrecursionlimit", "os.path.expanduser",
        "os.path.expandvars", "os.path.abspath", "os.path.realpath", "getpass.getuser",
        "os.get_terminal_size",
    ),
    INPUT_OUTPUT: ("builtins.open", "builtins.input", "builtins.breakpoint", "io.open", "io.open_code"),
    THREAD: ("os.fork", "os.forkpty", "os.posix_spawn", "os.kill", "os.abort", "sys.setswitchinterval"),
}  # fmt: skip
"""By rule: the calls, as module and qualified name, that differ between replicas."""
_RULE_BY_NAME: Final = {name: rule for rule, names in BY_RULE.items() for name in names}

MODULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("secrets",), ENTROPY),
    **dict.fromkeys(
        (
            "threading", "_thread", "asyncio", "concurrent", "multiprocessing", "sched", "signal", "queue",
        ),
        THREAD,
    ),
    **dict.fromkeys(("platform", "locale", "getpass", "resource", "pwd", "grp", "sysconfig", "psutil"), HOST),
    **dict.fromkeys(
        (
            "genericpath",
            "socket", "_socket", "subprocess", "_posixsubprocess", "shutil", "tempfile", "urllib.request",
            "http", "ftplib", "smtplib", "imaplib", "poplib", "socketserver", "select", "selectors", "ssl",
            "sqlite3", "_sqlite3", "glob", "fileinput", "linecache", "mmap",
            "dbm", "shelve", "requests", "httpx", "aiohttp", "urllib3", "redis",
            "psycopg", "psycopg2", "pymongo", "boto3", "io.FileIO", "posix", "nt", "os", "fcntl", "zipfile",
            "tarfile", "logging.handlers", "webbrowser", "xmlrpc", "telnetlib",
        ),
        INPUT_OUTPUT,
    ),
}  # fmt: skip
"""By module: what is called in it breaks this rule, whatever it is."""
PURE: Final = frozenset({
    "os.fspath", "os.fsencode", "os.fsdecode", "os.strerror", "os.path", "queue.Queue", "queue.PriorityQueue",
    "queue.LifoQueue", "queue.SimpleQueue", "os.PathLike", "os._Environ", "os.PathLike.__subclasshook__",
    "genericpath.commonprefix",
    "http.HTTPStatus", "os.WEXITSTATUS", "concurrent.futures.TimeoutError",
})  # fmt: skip
"""Calls in those modules that are functions of their arguments."""
_OBJECTS: Final[dict[str, Rule]] = {
    **dict.fromkeys(("_thread", "threading", "_queue", "queue", "asyncio", "_asyncio", "concurrent"), THREAD),
    **dict.fromkeys(("socket", "_socket", "sqlite3", "subprocess", "mmap", "select", "ssl"), INPUT_OUTPUT),
}
"""By module of its class: what a method of an object breaks, whatever it is."""
_PATH_METHODS: Final = frozenset({
    "absolute", "chmod", "cwd", "exists", "expanduser", "glob", "hardlink_to", "home", "is_dir", "is_file",
    "is_symlink", "iterdir", "lstat", "mkdir", "open", "owner", "read_bytes", "read_text", "readlink",
    "rename", "replace", "resolve", "rglob", "rmdir", "samefile", "stat", "symlink_to", "touch", "unlink",
    "walk", "write_bytes", "write_text",
})  # fmt: skip
"""Methods of `pathlib.Path` that look at the disk."""
_HOST_VALUES: Final = (
    ("os", "environ"), ("os", "environb"), ("sys", "argv"), ("sys", "version"), ("sys", "version_info"),
    ("sys", "platform"), ("sys", "executable"), ("sys", "implementation"), ("sys", "hexversion"),
    ("os", "name"), ("sys", "path"), ("sys", "modules"), ("sys", "flags"), ("sys", "prefix"),
    ("time", "timezone"),
    ("time", "tzname"), ("time", "altzone"), ("time", "daylight"), ("sys", "api_version"),
)  # fmt: skip
"""Values that each host, or each Python, has of its own: read as attribute of the module."""


def instead_of(called: Any) -> tuple[str, str] | None:
    """Return (its name, what to use instead) of a callable that differs between replicas; None: none."""
    owner = getattr(called, "__self__", None)
    if isinstance(owner, random.Random):
        return f"{type(owner).__name__}.{called.__name__}", _CHANCE
    name = _name_of(called, owner)
    return (name, _BY_NAME[name]) if name in _BY_NAME else None


def rule_of(called: Any) -> tuple[Rule, str] | None:
    """Return (the rule it breaks, its name) of a callable that differs between replicas; None: none.

    A `random.Random` of the caller's own is not judged here: its seed decides.
    """
    owner = getattr(called, "__self__", None)
    if isinstance(owner, random.Random):
        return _of_generator(owner, str(getattr(called, "__name__", "")))
    for name in _names_of(called, owner):
        rule = _RULE_BY_NAME.get(name)
        if rule is not None:
            return rule, name
    name = _name_of(called, owner)
    if name.startswith("pathlib.") and name.rpartition(".")[2] in _PATH_METHODS and "Pure" not in name:
        return INPUT_OUTPUT, name
    return None if name in PURE or name.startswith(("posixpath.", "ntpath.")) else _by_module(name, called)


def _of_generator(owner: random.Random, method: str) -> tuple[Rule, str] | None:
    if isinstance(owner, random.SystemRandom) or owner is getattr(random, "_inst", None):
        return ENTROPY, f"random.{method}"
    return None


def _by_module(name: str, called: Any) -> tuple[Rule, str] | None:
    if isinstance(called, type) and issubclass(called, BaseException):
        return None
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        rule = MODULES.get(".".join(parts[:length]))
        if rule is not None:
            return rule, name
    return None


def host_value(module: Any, attribute: str) -> str | None:
    """Return the name of a value that each host has of its own, such as `os.environ`; None: it is none."""
    name = getattr(module, "__name__", "")
    return f"{name}.{attribute}" if (name, attribute) in _HOST_VALUES else None


def is_environment(value: Any) -> bool:
    """Return whether it is `os.environ` itself, under whatever name."""
    os = sys.modules.get("os")
    return os is not None and value is os.environ


def is_path_type(hint: Any) -> bool:
    """Return whether instances of this type look at the disk: `pathlib.Path`."""
    return (
        isinstance(hint, type)
        and hint.__module__.startswith("pathlib")
        and not hint.__name__.startswith("Pure")
    )


def looks_at_disk(method: str) -> bool:
    """Return whether `pathlib.Path` has a method of this name that looks at the disk."""
    return method in _PATH_METHODS


def advances_itself(called: Any) -> bool:
    """Return whether a callable is a method bound to an iterator or a container, which it may change."""
    owner = getattr(called, "__self__", None)
    if not isinstance(called, (BuiltinMethodType, MethodType)) and type(called).__name__ != "method-wrapper":
        return False
    return hasattr(type(owner), "__next__") or isinstance(owner, (list, dict, set, bytearray))


def rule_of_object(owner: Any) -> tuple[Rule, str] | None:
    """Return (the rule that use of it breaks, its kind) of an open file, a lock, a socket; None: of none.

    The streams of the process are not accused: what a command prints changes no result.
    """
    kind = type(owner)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(owner, io.IOBase):
        return (INPUT_OUTPUT, f"an open file ({name})") if _is_file(owner) else None
    module = kind.__module__.split(".")[0]
    if module not in _OBJECTS or name in PURE or isinstance(owner, BaseException):
        return None
    return _OBJECTS[module], name


def _is_file(stream: io.IOBase) -> bool:
    if stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        return False
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError):
        return False  # in memory, or closed


def _names_of(called: Any, owner: Any) -> Iterator[str]:
    """Yield the name under each class that has it: a subclass of `date` has the `today` of `date`."""
    yield _name_of(called, owner)
    if isinstance(owner, type):
        name = getattr(called, "__name__", "")
        for base in owner.__mro__[1:]:
            yield f"{_public(base.__module__)}.{base.__qualname__}.{name}"


def _name_of(called: Any, owner: Any) -> str:
    qualified = getattr(called, "__qualname__", "")
    if isinstance(owner, ModuleType):
        return f"{_public(owner.__name__)}.{qualified}"
    if isinstance(owner, type):
        return f"{_public(owner.__module__)}.{owner.__qualname__}.{getattr(called, '__name__', '')}"
    if isinstance(called, (FunctionType, type)):
        return f"{_public(called.__module__)}.{qualified}"
    return f"{_public(getattr(called, '__module__', None) or _module_of(owner))}.{qualified}"


def _module_of(owner: Any) -> str:
    return "" if owner is None else type(owner).__module__


def _public(module: str) -> str:
    return {
        "posix": "os",
        "nt": "os",
        "io": "builtins",
        "_io": "builtins",
        "_thread": "threading",
        "_socket": "socket",
    }.get(module, module)
