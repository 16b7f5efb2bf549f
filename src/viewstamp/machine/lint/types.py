"""What kind of value an expression has, as far as annotations and constructors say: None where they do not.

A kind is a type hint, or one of the marks below for what the context lends.
"""

import ast
import collections
import collections.abc
import inspect
import types
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from random import Random
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

Kind = Any


class Mark(Enum):
    """Kinds other than types."""

    CONTEXT = "self.context"
    POSITION = "a position in the log"
    KEYS = "the keys of a dict"


_SETS: Final = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_DICTS: Final = (
    dict,
    collections.OrderedDict,
    collections.defaultdict,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
)
_LISTS: Final = (
    list,
    tuple,
    collections.deque,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Iterator,
)
_MUTABLE: Final = (list, dict, set, bytearray, collections.deque)
_SET_METHODS: Final = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_SET_OPERATORS: Final = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_TEXT_METHODS: Final = frozenset(
    {"join", "format", "upper", "lower", "strip", "replace", "title", "zfill", "hex", "decode"}
)
_BY_BUILTIN: Final[dict[str, Kind]] = {
    "len": int, "int": int, "hash": int, "ord": int, "id": int, "float": float, "str": str, "repr": str,
    "bool": bool, "bytes": bytes, "any": bool, "all": bool, "format": str, "range": list[int],
}  # fmt: skip
_LIKE_LIST: Final = frozenset({"sorted", "list", "tuple", "reversed", "iter", "deque", "filter"})


def plain(hint: Kind) -> Kind:
    """Return a hint without `Annotated`, and of a union the member that matters."""
    origin: Any = get_origin(hint)
    if origin is Annotated:
        return plain(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        members = [plain(member) for member in get_args(hint) if member is not type(None)]
        return next((one for one in members if is_set(one)), members[0] if members else None)
    if origin is Literal:
        return type(get_args(hint)[0])
    return hint


def origin_of(hint: Kind) -> Any:
    """Return the class of a kind without what stands in brackets."""
    found: Any = get_origin(hint)
    return hint if found is None else found


def is_set(hint: Kind) -> bool:
    """Return whether values of this kind have an order that differs between processes."""
    return origin_of(plain_or(hint)) in _SETS


def is_dict(hint: Kind) -> bool:
    """Return whether it is a mapping."""
    return origin_of(plain_or(hint)) in _DICTS


def is_mutable(hint: Kind) -> bool:
    """Return whether values of this kind can be changed in place, so that two names of one are an alias."""
    origin = origin_of(plain_or(hint))
    if not isinstance(origin, type):
        return False
    if issubclass(origin, _MUTABLE):
        return True
    config = getattr(origin, "__struct_config__", None)
    if config is not None:
        return not config.frozen
    parameters = getattr(origin, "__dataclass_params__", None)
    return parameters is not None and not parameters.frozen


def plain_or(hint: Kind) -> Kind:
    """Return `plain`, and leave alone what is not a hint."""
    return hint if hint is None or isinstance(hint, Mark) else plain(hint)


def element(hint: Kind) -> Kind:
    """Return the kind of what iteration over it yields."""
    hint = plain_or(hint)
    arguments = get_args(hint)
    origin = origin_of(hint)
    if not arguments:
        return str if hint is str else None
    if origin in _SETS or origin in _DICTS or origin in _LISTS:
        return arguments[0]
    return None


def value_of(hint: Kind) -> Kind:
    """Return the kind of the values of a mapping, or of the elements of a sequence."""
    hint = plain_or(hint)
    arguments = get_args(hint)
    if is_dict(hint):
        return arguments[1] if len(arguments) > 1 else None
    if origin_of(hint) is collections.Counter:
        return int
    return element(hint)


@lru_cache(4_096)
def hints_of(owner: Any) -> dict[str, Kind]:
    """Return the annotations of a class or function; empty where they cannot be read."""
    try:
        return get_type_hints(owner, include_extras=True)
    except Exception:  # noqa: BLE001  a user's annotations may raise anything
        return {}


def _filled(container: Any, *kinds: Kind) -> Kind:
    """Return the container's kind with what it holds, `Any` where that is not known."""
    known = tuple(Any if kind is None or isinstance(kind, Mark) else kind for kind in kinds)
    return container[known if len(known) > 1 or container is tuple else known[0]]


class Inference:
    """The kinds of expressions in one function."""

    def __init__(
        self,
        attributes: dict[str, Kind],
        self_name: str | None,
        resolve: Callable[[ast.expr], tuple[Any] | None],
        owner: type | None,
    ) -> None:
        self.names: dict[str, Kind] = {}
        """Of the function's own names, parameters included."""
        self._attributes = attributes
        self._self = self_name
        self._resolve = resolve
        self._owner = owner

    def learn(self, tree: ast.AST) -> None:
        """Note what assignments and loops say of the names that they bind."""
        for _ in range(2):  # what a name is may depend on one that is bound further down
            for node in ast.walk(tree):
                self._learn_one(node)

    def _learn_one(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(target, self.kind(node.value))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found = self._resolve(node.annotation)
            self._bind(node.target, found[0] if found else self._annotation(node.annotation))
        elif isinstance(node, ast.NamedExpr):
            self._bind(node.target, self.kind(node.value))
        elif isinstance(node, (ast.For, ast.comprehension)):
            self._bind(node.target, element(self.kind(node.iter)))

    def _annotation(self, node: ast.expr) -> Kind:
        if isinstance(node, ast.Subscript):
            found = self._resolve(node.value)
            inner = self._annotation_item(node.slice)
            if found is not None and isinstance(found[0], type):
                try:
                    return found[0][inner]  # type: ignore[index]
                except TypeError:
                    return found[0]
        return None

    def _annotation_item(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Tuple):
            return tuple(self._annotation_item(item) for item in node.elts)
        found = self._resolve(node)
        return found[0] if found else self._annotation(node) or Any

    def _bind(self, target: ast.expr, kind: Kind) -> None:
        if isinstance(target, ast.Name):
            if kind is not None and self.names.get(target.id) is None:
                self.names[target.id] = kind
        elif isinstance(target, (ast.Tuple, ast.List)):
            items = get_args(plain_or(kind))
            for place, inner in enumerate(target.elts):
                self._bind(inner, items[place] if place < len(items) else None)

    def kind(self, node: ast.expr | None) -> Kind:
        """Return the kind of an expression."""
        match node:
            case ast.Constant():
                return type(node.value)
            case ast.JoinedStr():
                return str
            case ast.Name():
                return self._of_name(node)
            case ast.Attribute():
                return self._of_attribute(node)
            case ast.Subscript():
                return self._of_subscript(node)
            case ast.Call():
                return self._of_call(node)
            case ast.NamedExpr():
                return self.kind(node.value)
            case ast.UnaryOp():
                return bool if isinstance(node.op, ast.Not) else self.kind(node.operand)
            case _:
                return self._of_composite(node)

    def _of_composite(self, node: ast.expr | None) -> Kind:
        match node:
            case ast.BinOp():
                return self._of_operator(node)
            case ast.BoolOp():
                return self._either(node.values)
            case ast.IfExp():
                return self._either([node.body, node.orelse])
            case ast.Compare():
                return bool
            case ast.Dict():
                return _filled(dict, Any, self.kind(node.values[0]) if node.values else Any)
            case ast.DictComp():
                return _filled(dict, self.kind(node.key), self.kind(node.value))
            case _:
                return self._of_sequence(node)

    def _either(self, nodes: list[ast.expr]) -> Kind:
        kinds = [self.kind(node) for node in nodes]
        return next((one for one in kinds if is_set(one)), next(filter(None, kinds), None))

    def _of_sequence(self, node: ast.expr | None) -> Kind:
        match node:
            case ast.Set():
                return _filled(set, self.kind(node.elts[0]))
            case ast.SetComp():
                return _filled(set, self.kind(node.elt))
            case ast.List():
                return _filled(list, self.kind(node.elts[0]) if node.elts else Any)
            case ast.ListComp() | ast.GeneratorExp():
                return _filled(list, self.kind(node.elt))
            case ast.Tuple():
                return _filled(tuple, *(self.kind(item) for item in node.elts)) if node.elts else tuple
            case _:
                return None

    def _of_operator(self, node: ast.BinOp) -> Kind:
        left, right = self.kind(node.left), self.kind(node.right)
        if isinstance(node.op, _SET_OPERATORS):
            for kind in (left, right):
                if is_set(kind):
                    return kind
            if Mark.KEYS in (left, right):
                return set
        if Mark.POSITION in (left, right):
            return Mark.POSITION
        if float in (plain_or(left), plain_or(right)) and not isinstance(node.op, ast.FloorDiv):
            return float
        if isinstance(node.op, ast.Div):
            return float if {plain_or(left), plain_or(right)} <= {int, None, bool} else left
        return left if left is not None and not isinstance(node.op, ast.Mult) else (left or right)

    def _of_name(self, node: ast.Name) -> Kind:
        if node.id == self._self:
            return self._owner
        if node.id in self.names:
            return self.names[node.id]
        found = self._resolve(node)
        if found is None or isinstance(found[0], (types.ModuleType, types.FunctionType)):
            return None
        return type(found[0]) if not isinstance(found[0], type) else None

    def _of_attribute(self, node: ast.Attribute) -> Kind:
        if isinstance(node.value, ast.Name) and node.value.id == self._self and self._self is not None:
            return self._of_own(node.attr)
        base = self.kind(node.value)
        if base is Mark.CONTEXT:
            return {"random": Random, "viewstamp": Mark.POSITION, "offset": Mark.POSITION}.get(node.attr, int)
        if base is Mark.POSITION:
            return Mark.POSITION
        base = plain_or(base)
        if isinstance(base, type) and base.__module__ != "builtins":
            return hints_of(base).get(node.attr)
        found = self._resolve(node)
        return type(found[0]) if found and isinstance(found[0], (set, frozenset, dict, list, float)) else None

    def _of_own(self, name: str) -> Kind:
        if name == "context":
            return Mark.CONTEXT
        if name in self._attributes:
            return self._attributes[name]
        member = inspect.getattr_static(self._owner, name, None) if self._owner else None
        if isinstance(member, property) and member.fget is not None:
            return hints_of(member.fget).get("return")
        return type(member) if isinstance(member, (set, frozenset)) else None

    def _of_subscript(self, node: ast.Subscript) -> Kind:
        base = plain_or(self.kind(node.value))
        if base is Mark.POSITION or isinstance(node.slice, ast.Slice):
            return base
        arguments = get_args(base)
        if (
            origin_of(base) is tuple
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, int)
        ):
            place = node.slice.value
            if arguments and Ellipsis not in arguments and -len(arguments) <= place < len(arguments):
                return arguments[place]
        return str if base is str else value_of(base)

    def _of_call(self, node: ast.Call) -> Kind:
        if isinstance(node.func, ast.Attribute):
            found = self._of_method(node.func, node)
            if found is not None:
                return found
        outside = self._resolve(node.func)
        called = outside[0] if outside else None
        module, name = getattr(called, "__module__", ""), getattr(called, "__name__", "")
        if module in {"builtins", "collections"}:
            found = self._of_builtin(called, name, node)
            if found is not None:
                return found
        if isinstance(called, type):
            return called
        if isinstance(called, types.FunctionType):
            return hints_of(called).get("return")
        return float if module == "math" and name not in _INTEGRAL else None

    def _of_builtin(self, called: Any, name: str, node: ast.Call) -> Kind:
        first = self.kind(node.args[0]) if node.args else None
        if called in {set, frozenset}:
            return _filled(set, element(first))
        if called is sum:
            return float if plain_or(element(first)) is float else int
        if called in {min, max, next}:
            return element(first) if len(node.args) == 1 or called is next else first
        if called is round:
            return int if len(node.args) == 1 and not node.keywords else first
        if called is abs:
            return first
        return _filled(list, element(first)) if name in _LIKE_LIST else _BY_BUILTIN.get(name)

    def _of_method(self, function: ast.Attribute, node: ast.Call) -> Kind:
        if isinstance(function.value, ast.Name) and function.value.id == self._self and self._owner:
            member = inspect.getattr_static(self._owner, function.attr, None)
            plain_function = getattr(member, "function", None) or getattr(member, "__func__", None) or member
            return hints_of(plain_function).get("return") if callable(plain_function) else None
        base, name = plain_or(self.kind(function.value)), function.attr
        if is_set(base):
            return base if name in _SET_METHODS else element(base) if name == "pop" else None
        if is_dict(base) or origin_of(base) is collections.Counter:
            return self._of_dict_method(base, name, node)
        if base is Random:
            return {"random": float, "uniform": float, "gauss": float}.get(name)
        if name in {"pop", "popleft"}:
            return element(base)
        if base is str or (name in _TEXT_METHODS and base in (str, None)):
            return list[str] if "split" in name else str if name in _TEXT_METHODS else None
        if isinstance(base, type) and base.__module__ != "builtins":
            return hints_of(getattr(base, name, None)).get("return") if hasattr(base, name) else None
        return None

    def _of_dict_method(self, base: Kind, name: str, node: ast.Call) -> Kind:
        value = value_of(base)
        if name in {"get", "pop", "setdefault"}:
            return value if value is not None else self.kind(node.args[1]) if len(node.args) > 1 else None
        if name == "keys":
            return Mark.KEYS
        if name == "values":
            return _filled(list, value)
        if name == "items":
            return _filled(list, _filled(tuple, element(base), value))
        return base if name == "copy" else None


_INTEGRAL: Final = frozenset(
    {
        "floor",
        "ceil",
        "trunc",
        "isqrt",
        "gcd",
        "lcm",
        "factorial",
        "comb",
        "perm",
        "isnan",
        "isinf",
        "isclose",
        "isfinite",
    }
)
