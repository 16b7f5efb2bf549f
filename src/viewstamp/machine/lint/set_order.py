"""The order of sets: where a value without an order is read in one."""

import ast
from collections.abc import Iterator
from typing import Final

from viewstamp.machine.lint.types import Inference, is_dict, is_set, plain_or

WITHOUT_ORDER: Final = frozenset(
    {"len", "any", "all", "set", "frozenset", "bool", "isinstance", "sum", "Counter"}
)
"""Functions whose result does not depend on the order of what they are given."""
_BY_KEY: Final = frozenset({"sorted", "min", "max", "nlargest", "nsmallest"})
_ORDERED: Final = frozenset({
    "list", "tuple", "iter", "enumerate", "zip", "map", "filter", "reversed", "str", "repr", "format", "dict",
    "deque", "reduce", "chain", "islice", "accumulate", "cycle", "fromkeys", "print", "bytes", "bytearray",
    "OrderedDict", "starmap", "takewhile", "dropwhile", "groupby", "pairwise", "batched", "permutations",
    "combinations", "product", "compress", "array", "count", "dumps", "dump", "pformat", "pprint",
})  # fmt: skip
_KEEPERS: Final = frozenset(
    {"extend", "join", "extendleft", "writelines", "sample", "choice", "choices", "shuffle", "from_iterable"}
)
_WRAPPERS: Final = frozenset({"enumerate", "reversed", "iter", "map", "filter", "zip"})
_COMMUTING: Final = frozenset({"add", "discard", "remove"})


class SetOrder:
    """Finds where the order of a set shows."""

    def __init__(self, inference: Inference, tree: ast.AST) -> None:
        self._kinds = inference
        self._tree = tree

    def is_set(self, node: ast.expr) -> bool:
        """Return whether the expression is a set."""
        return is_set(self._kinds.kind(node))

    def of_loop(self, node: ast.For) -> str | None:
        """Say what is wrong with a loop over a set; None: its turns may come in any order."""
        if self._unordered(node.iter) and not self._commutes(node.body + node.orelse, node):
            return f"loops over the set {ast.unparse(node.iter)} in its order"
        return None

    def of_comprehension(
        self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp, parent: ast.AST | None
    ) -> str | None:
        """Say what is wrong with a comprehension over a set."""
        over = next((one.iter for one in node.generators if self._unordered(one.iter)), None)
        if over is None or self._is_consumed_without_order(node, parent):
            return None
        return f"makes a sequence in the order of the set {ast.unparse(over)}"

    def of_call(self, node: ast.Call) -> str | None:
        """Say what is wrong with a call that is given a set, or made on one."""
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if isinstance(function, ast.Attribute) and self.is_set(function.value):
            return (
                f"takes an arbitrary element by {ast.unparse(node)}"
                if name == "pop" and not node.args
                else None
            )
        if name == "most_common" and isinstance(function, ast.Attribute):
            counted = function.value
            if isinstance(counted, ast.Call) and any(map(self._unordered, counted.args)):
                return f"orders the set {ast.unparse(counted.args[0])} by numbers that can be equal"
        given = [argument for argument in node.args if self._unordered(_unstarred(argument))]
        if not given:
            return None
        if isinstance(function, ast.Attribute) and name in _COMMUTING | {"update"}:
            return None
        what = f"the set {ast.unparse(_unstarred(given[0]))}"
        if name in _BY_KEY:
            key = next((word.value for word in node.keywords if word.arg == "key"), None)
            limited = name.startswith("n") and key is None
            return (
                None
                if limited or _is_total(key)
                else f"orders {what} by a key that can be equal for two elements"
            )
        if name == "sum" and plain_or(self._kinds.kind(node)) is float:
            return f"adds the floats of {what}, whose sum depends on the order"
        return f"reads {what} in its order, by {name}()" if name in _ORDERED | _KEEPERS else None

    def of_text(self, node: ast.JoinedStr) -> str | None:
        """Say what is wrong with a text that shows a set."""
        for value in node.values:
            if isinstance(value, ast.FormattedValue) and self.is_set(value.value):
                return f"writes the set {ast.unparse(value.value)} as text"
        return None

    def of_operator(self, node: ast.BinOp) -> str | None:
        """Say what is wrong with `"%s" % some_set`."""
        is_text = isinstance(node.op, ast.Mod) and plain_or(self._kinds.kind(node.left)) is str
        items = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
        shown = next((one for one in items if self.is_set(one)), None) if is_text else None
        return None if shown is None else f"writes the set {ast.unparse(shown)} as text"

    def of_unpacking(self, target: ast.expr, value: ast.expr) -> str | None:
        """Say what is wrong with `first, *rest = some_set`."""
        if isinstance(target, (ast.Tuple, ast.List)) and len(target.elts) > 1 and self.is_set(value):
            return f"unpacks the set {ast.unparse(value)} in its order"
        if (
            isinstance(target, (ast.Tuple, ast.List))
            and self.is_set(value)
            and any(isinstance(one, ast.Starred) for one in target.elts)
        ):
            return f"unpacks the set {ast.unparse(value)} in its order"
        return None

    def of_display(self, node: ast.List | ast.Tuple) -> str | None:
        """Say what is wrong with `[*some_set]`."""
        for item in node.elts:
            if isinstance(item, ast.Starred) and isinstance(node.ctx, ast.Load) and self.is_set(item.value):
                return f"reads the set {ast.unparse(item.value)} in its order"
        return None

    def _unordered(self, node: ast.expr) -> bool:
        """Return whether iterating goes in the order of a set, however it is wrapped."""
        if self.is_set(node):
            return True
        wrapped = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _WRAPPERS
        return wrapped and any(self._unordered(argument) for argument in node.args)  # type: ignore[attr-defined]

    def _is_consumed_without_order(self, node: ast.expr, parent: ast.AST | None) -> bool:
        if not isinstance(parent, ast.Call) or node not in parent.args:
            return isinstance(parent, ast.Compare)
        name = parent.func.attr if isinstance(parent.func, ast.Attribute) else getattr(parent.func, "id", "")
        if name in _BY_KEY:
            return _is_total(next((word.value for word in parent.keywords if word.arg == "key"), None))
        if name == "sum":
            return plain_or(self._kinds.kind(parent)) is not float
        return name in WITHOUT_ORDER | {"update", "intersection", "union", "difference", "fsum"}

    def _commutes(self, body: list[ast.stmt], loop: ast.For) -> bool:
        return all(self._statement_commutes(statement, loop) for statement in body)

    def _statement_commutes(self, node: ast.stmt, loop: ast.For) -> bool:
        match node:
            case ast.Pass() | ast.Continue() | ast.Raise() | ast.Assert():
                return True
            case ast.Return():
                return node.value is None or isinstance(node.value, ast.Constant)
            case ast.AugAssign():
                return self._sum_commutes(node)
            case ast.Assign():
                names = {one.id for one in node.targets if isinstance(one, ast.Name)}
                if len(names) < len(node.targets):
                    return False
                return isinstance(node.value, ast.Constant) or not self._used_outside(names, loop)
            case ast.Delete():
                return all(isinstance(one, ast.Subscript) for one in node.targets)
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name, value=base), args=given)):
                return name in _COMMUTING or (
                    name == "pop" and is_dict(self._kinds.kind(base)) and bool(given)
                )
            case ast.If():
                return self._commutes(node.body + node.orelse, loop)
            case ast.Break():
                return not any(
                    isinstance(one, (ast.AugAssign, ast.Delete, ast.Expr)) for one in ast.walk(loop)
                )
            case _:
                return False

    def _sum_commutes(self, node: ast.AugAssign) -> bool:
        if not isinstance(node.op, (ast.Add, ast.Sub, ast.BitOr, ast.BitAnd, ast.BitXor)):
            return False
        numeric = plain_or(self._kinds.kind(node.value)) not in {float, str, list, None}
        return numeric and (
            not isinstance(node.target, ast.Subscript) or is_dict(self._kinds.kind(node.target.value))
        )

    def _used_outside(self, names: set[str], loop: ast.For) -> bool:
        inside = set(ast.walk(loop))
        return any(
            isinstance(one, ast.Name)
            and one.id in names
            and isinstance(one.ctx, ast.Load)
            and one not in inside
            for one in ast.walk(self._tree)
        )


def _unstarred(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Starred) else node


def _is_total(key: ast.expr | None) -> bool:
    """Return whether a key is different for each two different elements, as far as can be seen."""
    if key is None or isinstance(key, ast.Constant):
        return True
    if not isinstance(key, ast.Lambda) or not key.args.args:
        return False
    name = key.args.args[0].arg
    body = key.body
    last: list[ast.expr] = list(body.elts) if isinstance(body, ast.Tuple) else [body]
    return any(_is_itself(part, name) for part in last)


def _is_itself(node: ast.expr, name: str) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_itself(node.operand, name)
    return isinstance(node, ast.Name) and node.id == name


def parents_of(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """Return, for each node, the node that holds it."""
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements in the order of the source, those of inner blocks included."""
    for statement in body:
        yield statement
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from statements(handler.body)
        for case in getattr(statement, "cases", []):
            yield from statements(case.body)
