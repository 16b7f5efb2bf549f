"""What a class defines at one version, as text by name: its state, its methods, the structs in both.

The interface in force stands in the log. Digests cover what it defines, commands that it does not define are
not executed, and code that lacks something of it waits for other code. So a class may grow without ceremony:
what is new counts from the entry on that raises the interface.

Names: `stock` is an attribute, `stock =` its default, `buy()` a command, `buy(0 item)` an argument, `struct
Order[price]` a field, `enum Colour[red]` a member. Queries are not in it: they run on one replica, and
nothing that replicas share depends on them. What a command does is not in it either (`code_of`).
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

import msgspec
import xxhash
from msgspec import inspect as kinds

from viewstamp.machine.behaviour import behaviour_of
from viewstamp.machine.canonical import encoder_of, holds_set
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.machine.evolution import migrations_of, removed_attributes, version_of
from viewstamp.machine.schema import REQUIRED, inner_types, parts_of, struct_name, text_of
from viewstamp.machine.state_machine import Operation, StateMachine, annotated_state

DEFAULT: Final = " ="
NORMAL: Final = "*"
BEHAVIOUR: Final = "+"
QUERY: Final = "?"
"""How names begin in `code_of`."""
_SORTED: Final = " (sorted)"
_DIGEST_LETTERS: Final = 12


_INTERFACES: Final[dict[tuple[type[StateMachine], int], Mapping[str, str]]] = {}


def interface_of(cls: type[StateMachine], version: int) -> Mapping[str, str]:
    """Return what the class defines where `version` is in force. Callers do not change it."""
    if (cls, version) not in _INTERFACES:
        _INTERFACES[cls, version] = _read_interface(cls, version)
    return _INTERFACES[cls, version]


def _read_interface(cls: type[StateMachine], version: int) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for prefix, part in parts_of(cls, ""):
        _add_state(part, prefix, version, found)
    for method in MachineDefinition.of(cls).methods.values():
        if method.kind == "command" and method.since <= version:
            _add_method(method, found)
    # In an order that does not depend on the text of the class; fields of a struct keep theirs.
    return dict(sorted(found.items(), key=lambda item: item[0].partition("[")[0]))


def own_interface(cls: type[StateMachine]) -> Mapping[str, str]:
    """Return what the class defines at its own version."""
    return interface_of(cls, version_of(cls))


def new_members_in_state(cls: type[StateMachine], before: Mapping[str, str]) -> Iterator[str]:
    """Yield the members that enums in the state have got since the interface `before`, in order.

    Code with `before` can neither make such a member nor read a snapshot that holds one.
    """
    found: dict[str, str] = {}
    for _, part in parts_of(cls, ""):
        if part.snapshot is StateMachine.snapshot:
            for hint in annotated_state(part).values():
                _add_structs(kinds.type_info(hint), found)
    known = {name.partition("[")[0] for name in before}
    for name in found:
        if name.startswith("enum ") and name not in before and name.partition("[")[0] in known:
            yield name


_CODE: Final[dict[type[StateMachine], dict[str, str]]] = {}


def code_of(cls: type[StateMachine]) -> dict[str, str]:
    """Return what a data directory and a backup record of a class's code, by name (`replica.code_check`).

    `*add()` is a digest of the behaviour of what `machine.behaviour` names; `?size()` the interface of a
    query. Earlier programs recorded `+add()`, the behaviour with the names of local variables, and programs
    before those `add`, the text of a method.

    It is read once for each class, when a server starts with it. Callers do not change it.
    """
    if cls not in _CODE:
        behaviour = {f"{NORMAL}{name}": element.digest for name, element in behaviour_of(cls).items()}
        queries = {f"{QUERY}{name}": kind for name, kind in query_interface_of(cls).items()}
        _CODE[cls] = behaviour | queries
    return _CODE[cls]


def texts_of(cls: type[StateMachine]) -> dict[str, str]:
    """Return digests of the texts of a class's methods, as programs recorded them before their behaviour."""
    return {
        f"{prefix}{name}": _code_digest(function)
        for prefix, part in parts_of(cls, "")
        for name, function in _functions(part)
    }


def query_interface_of(cls: type[StateMachine]) -> Mapping[str, str]:
    """Return what the queries of a class take and return, as `interface_of` does for its commands."""
    found: dict[str, str] = {}
    for method in MachineDefinition.of(cls).methods.values():
        if method.kind == "query":
            _add_method(method, found)
    return found


def interface_digest(interface: Mapping[str, str]) -> int:
    """Return 63 bits that differ where two interfaces do."""
    named = sorted(interface.items())
    return xxhash.xxh3_64_intdigest(msgspec.msgpack.encode(named)) >> 1 or 1


def differences(own: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    """Yield what of the interface `wanted` a class with the interface `own` does not do, in a few words each.

    What `own` has beyond it needs a default: else it could not be told from its absence.
    """
    for name, kind in wanted.items():
        if name not in own:
            yield f"{name} ({kind}) is missing"
        elif own[name] != kind and not _got_default(kind, own[name]):
            yield f"{name} was {kind} and is {own[name]}"
    for name, kind in own.items():
        if name not in wanted and kind.endswith(REQUIRED) and _owner_known(name, wanted):
            yield f"{name} is new and has no default"


def lacking(own: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Return the first of the `differences`; empty: there is none."""
    return next(differences(own, wanted), "")


def _got_default(before: str, now: str) -> bool:
    return before.endswith(REQUIRED) and now.partition(DEFAULT)[0] == before.removesuffix(REQUIRED)


def _owner_known(name: str, wanted: Mapping[str, str]) -> bool:
    if "[" in name:
        return name.partition("[")[0] in wanted
    return f"{name.partition('(')[0]}()" in wanted


def _add_state(part: type[StateMachine], prefix: str, version: int, found: dict[str, str]) -> None:
    if part.snapshot is not StateMachine.snapshot:
        found[f"{prefix}()"] = "its own snapshot"
        return
    removed = removed_attributes(part)
    machine = part()
    for name, hint in annotated_state(part).items():
        if name in removed and removed[name] <= version:
            continue
        info = kinds.type_info(hint)
        found[f"{prefix}{name}"] = _typed(hint)
        found[f"{prefix}{name}{DEFAULT}"] = _digest(encoder_of(hint).encode(getattr(machine, name)))
        _add_structs(info, found)


def _add_method(method: Method, found: dict[str, str]) -> None:
    result = method.result_type
    callers = f" for {', '.join(method.access.roles)}" if method.access.roles else ""
    found[f"{method.name}()"] = f"{method.kind} -> {_typed(result)}{callers}"
    _add_structs(kinds.type_info(result), found)
    for place, field in enumerate(msgspec.structs.fields(method.arguments)):
        found[f"{method.name}({place} {field.name})"] = f"{_typed(field.type)}{_default_of(field)}"
        _add_structs(kinds.type_info(field.type), found)


def _typed(hint: Any) -> str:
    return f"{text_of(kinds.type_info(hint))}{_SORTED if holds_set(hint) else ''}"


def _default_of(field: Any) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        made = field.default_factory()
    elif field.default is not msgspec.NODEFAULT:
        made = field.default
    else:
        return REQUIRED
    try:
        text = msgspec.json.encode(made).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = type(made).__name__
    return f"{DEFAULT} {text if len(text) <= _DIGEST_LETTERS else _digest(text.encode())}"


def _add_structs(info: Any, found: dict[str, str]) -> None:
    """Add the fields of the structs and the members of the enums in this type, each once."""
    cls = getattr(info, "cls", None)
    if isinstance(info, kinds.EnumType) and isinstance(cls, type) and issubclass(cls, Enum):
        found.update({f"enum {cls.__name__}[{member.name}]": repr(member.value) for member in cls})
    fields = getattr(info, "fields", ())
    if fields:
        name = struct_name(info)
        if name in found:
            return
        is_array = getattr(info, "array_like", False) or isinstance(info, kinds.NamedTupleType)
        found[name] = f"{'array' if is_array else 'map'} {getattr(info, 'tag', None)}"
        for place, field in enumerate(fields):
            where = f"{place} " if is_array else ""
            # A TypedDict is a dict where it runs: what it has got later could not be left out of it.
            default = REQUIRED if isinstance(info, kinds.TypedDictType) else _default_of(field)
            found[f"{name}[{where}{field.encode_name}]"] = f"{text_of(field.type)}{default}"
    for child in inner_types(info):
        _add_structs(child, found)


def _functions(part: type[StateMachine]) -> Iterator[tuple[str, Any]]:
    migrations = {one.name for one in migrations_of(part)}
    for cls in reversed(part.__mro__):
        if not issubclass(cls, StateMachine) or cls is StateMachine:
            continue
        for name, value in vars(cls).items():
            function = value.function if isinstance(value, Operation) else value
            if inspect.isfunction(function) and name not in migrations:
                yield name, function


def _code_digest(function: Any) -> str:
    """Return a digest of what a function does, whatever its comments; empty where its source is not known."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ""
    node = tree.body[0]
    if isinstance(node, ast.FunctionDef):
        node.decorator_list = []
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return _digest(ast.unparse(tree).encode())


def _digest(data: bytes) -> str:
    return xxhash.xxh3_64_hexdigest(data)[:_DIGEST_LETTERS]
