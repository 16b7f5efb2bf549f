"""The rules that concern a whole function: half-done commands, queries that change, aliases, recursion."""

import ast
import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

from viewstamp.machine.lint.effects import Effects, changed_parameters, plain_function
from viewstamp.machine.lint.reader import Reader
from viewstamp.machine.lint.set_order import parents_of
from viewstamp.machine.lint.types import is_dict, is_mutable, origin_of, plain_or
from viewstamp.machine.rules import ALIASING, HALF_DONE, HIDDEN_STATE, QUERY_MUTATES, Rule

Report = Callable[[Rule, ast.AST, str], None]
_HALVING: Final = (ast.FloorDiv, ast.Mod, ast.RShift)
_MAKING: Final = (ast.List, ast.Dict, ast.Set, ast.Call)
_STORING: Final = frozenset({"append", "add", "appendleft", "insert", "setdefault"})
_WITH_DEFAULT: Final = (Counter, defaultdict)
_CONTAINERS: Final = (list, dict, set, bytearray)


class Flow:
    """One method of the machine as a whole."""

    def __init__(self, reader: Reader, effects: Effects, report: Report) -> None:
        self._reader = reader
        self._effects = effects
        self._report = report
        self._tree = reader.source.tree
        self._parameters = {
            argument.arg for argument in self._tree.args.args[1:] + self._tree.args.kwonlyargs
        }

    # A query that changes the state

    def read_query(self) -> None:
        """Report each change that a query makes."""
        for node in self._effects.all_changes(self._tree):
            self._report(QUERY_MUTATES, node, f"changes the state in a query: {_text(node)}")

    # Half-done commands

    def read_command(self) -> None:
        """Report an exception that leaves a part of the changes behind."""
        self._path(self._tree.body, changed=False)

    def _path(self, body: list[ast.stmt], *, changed: bool) -> bool | None:
        """Follow a block; return whether something is changed at its end, None: it has none."""
        after: bool | None = changed
        for statement in body:
            after = self._statement(statement, changed=bool(after))
            if after is None:
                return None
        return after

    def _statement(self, node: ast.stmt, *, changed: bool) -> bool | None:
        match node:
            case ast.Raise():
                if changed:
                    self._half_done(node, f"raises after it has changed the state: {_text(node)}")
                return None
            case ast.Return() | ast.Break() | ast.Continue():
                self._risks(node, changed=changed)
                return None
            case ast.Assert() | ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                return changed  # an assertion states what cannot be otherwise; equal runs find one that fails
            case _:
                return self._block(node, changed=changed)

    def _block(self, node: ast.stmt, *, changed: bool) -> bool | None:
        match node:
            case ast.If():
                self._risks(node.test, changed=changed)
                ends = [self._path(body, changed=changed) for body in (node.body, node.orelse)]
                return _joined(ends)
            case ast.For() | ast.While() | ast.AsyncFor():
                return self._loop(node, changed=changed)
            case ast.With() | ast.AsyncWith():
                return self._path(node.body, changed=changed)
            case ast.Try():
                return self._attempt(node, changed=changed)
            case ast.Match():
                return _joined([changed, *(self._path(case.body, changed=changed) for case in node.cases)])
            case _:
                self._risks(node, changed=changed)
                return changed or any(True for _ in self._effects.all_changes(node))

    def _loop(self, node: ast.For | ast.While | ast.AsyncFor, *, changed: bool) -> bool:
        # An earlier turn may have changed something: the second look is at that.
        turned = any(True for statement in node.body for _ in self._effects.all_changes(statement))
        self._path(node.body, changed=changed or turned)
        after = self._path(node.orelse, changed=changed or turned)
        return changed or turned or bool(after)

    def _attempt(self, node: ast.Try, *, changed: bool) -> bool | None:
        inside = any(True for statement in node.body for _ in self._effects.all_changes(statement))
        if node.handlers:
            after = self._path_without_reports(node.body, changed=changed)
        else:
            after = self._path(node.body, changed=changed)
        ends = [after]
        for handler in node.handlers:
            undoes = any(True for _ in self._effects.all_changes(handler))
            follow = self._path_without_reports if undoes else self._path
            ends.append(follow(handler.body, changed=changed or inside))
        joined = _joined(ends)
        final = self._path(node.finalbody, changed=bool(joined))
        return None if joined is None or final is None else joined or final

    def _path_without_reports(self, body: list[ast.stmt], *, changed: bool) -> bool | None:
        report, self._report = self._report, lambda *_: None
        try:
            return self._path(body, changed=changed)
        finally:
            self._report = report

    def _half_done(self, node: ast.AST, text: str) -> None:
        self._report(HALF_DONE, node, text)

    def _risks(self, node: ast.AST, *, changed: bool) -> None:
        """Report what may raise by itself after a change: a missing key, a number of text, a division."""
        if not changed:
            return
        for inner in ast.walk(node):
            why = self._may_raise(inner)
            if why is not None:
                self._half_done(inner, f"may raise {why} after it has changed the state: {_text(inner)}")
                return

    def _may_raise(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Subscript) and self._is_key_unchecked(node.value, node.slice, node):
            is_assigned = isinstance(node.ctx, ast.Store) and not self._is_augmented(node)
            return None if is_assigned else "KeyError"
        if isinstance(node, ast.Call) and _is_method(node, "pop") and len(node.args) == 1:
            base = node.func.value  # type: ignore[attr-defined]
            return "KeyError" if self._is_key_unchecked(base, node.args[0], node) else None
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") in {"int", "float"}
            and len(node.args) == 1
        ):
            argument = node.args[0]
            is_text = plain_or(self._reader.kinds.kind(argument)) is str and self._is_parameter(argument)
            return "ValueError" if is_text else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.FloorDiv, ast.Mod)):
            divided = plain_or(self._reader.kinds.kind(node.left)) is not str
            if divided and self._is_parameter(node.right) and not self._is_compared(node.right):
                return "ZeroDivisionError"
        return None

    def _is_augmented(self, node: ast.Subscript) -> bool:
        return any(isinstance(one, ast.AugAssign) and one.target is node for one in ast.walk(self._tree))

    def _is_parameter(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._parameters

    def _is_compared(self, node: ast.expr) -> bool:
        text = ast.unparse(node)
        for one in ast.walk(self._tree):
            if isinstance(one, ast.Compare) and any(
                ast.unparse(part) == text for part in [one.left, *one.comparators]
            ):
                return True
            if isinstance(one, ast.If) and text in {
                ast.unparse(part) for part in ast.walk(one.test) if isinstance(part, ast.expr)
            }:
                return True
        return False

    def _is_key_unchecked(self, base: ast.expr, key: ast.expr, node: ast.AST) -> bool:
        """Return whether a client's key is looked up in a mapping of the state that may not have it."""
        kind = plain_or(self._reader.kinds.kind(base))
        if not is_dict(kind) or origin_of(kind) in _WITH_DEFAULT:
            return False
        if not (self._is_parameter(key) and self._effects.is_inside(base)):
            return False
        text, key_text = ast.unparse(base), ast.unparse(key)
        for one in ast.walk(self._tree):
            if isinstance(one, ast.Compare) and any(ast.unparse(part) == text for part in one.comparators):
                return False
            if getattr(one, "lineno", 0) >= getattr(node, "lineno", 0):
                continue
            if isinstance(one, ast.Subscript) and (ast.unparse(one.value), ast.unparse(one.slice)) == (
                text,
                key_text,
            ):
                return False
            if (
                isinstance(one, ast.Call)
                and isinstance(one.func, ast.Attribute)
                and ast.unparse(one.func.value) == text
            ) and (
                one.func.attr in {"get", "setdefault"} and one.args and ast.unparse(one.args[0]) == key_text
            ):
                return False
        return not any(isinstance(one, ast.Try) for one in ast.walk(self._tree))

    # Two names for one object

    def read_aliases(self, changed_kinds: set[Any]) -> None:
        """Report an object that is stored in two places of the state."""
        parents = parents_of(self._tree)
        stored: dict[str, list[ast.AST]] = {}
        for node, value in _stores(self._tree, self._effects):
            if not self._matters(value, changed_kinds):
                continue
            if isinstance(value, ast.Name):
                stored.setdefault(value.id, []).append(node)
                if not self._effects.is_inside(value):
                    continue
            if self._effects.is_inside(value) and not self._is_moved(value, node):
                self._report(ALIASING, node, f"keeps one object in two places: {_text(node)}")
        for name, nodes in stored.items():
            self._report_stored(name, nodes, parents)
        for node in ast.walk(self._tree):
            self._repeated(node)

    def _report_stored(self, name: str, nodes: list[ast.AST], parents: dict[ast.AST, ast.AST]) -> None:
        for place, node in enumerate(nodes[1:], 1):
            together = [one for one in nodes[:place] if _on_one_path(one, node, parents)]
            if together and not _is_bound_between(self._tree, name, together[-1], node):
                self._report(ALIASING, node, f"keeps {name} in two places of the state: {_text(node)}")
                return
        for node in nodes:
            loop = _loop_around(node, parents)
            if loop is not None and not _binds(loop, name) and _made_here(self._tree, name):
                self._report(ALIASING, node, f"keeps {name} once for each turn of a loop: {_text(node)}")

    def _matters(self, value: ast.expr, changed_kinds: set[Any]) -> bool:
        kind = plain_or(self._reader.kinds.kind(value))
        origin = origin_of(kind)
        if isinstance(origin, type) and issubclass(origin, _CONTAINERS):
            return True
        return is_mutable(kind) and origin in changed_kinds

    def _is_moved(self, value: ast.expr, node: ast.AST) -> bool:
        """Return whether the first place gives the object up: it is deleted, replaced or cleared."""
        root = value
        while isinstance(root, (ast.Subscript, ast.Call)):
            root = root.value if isinstance(root, ast.Subscript) else root.func
            root = root.value if isinstance(root, ast.Attribute) and isinstance(value, ast.Call) else root
        text, whole = ast.unparse(root), ast.unparse(value)
        for one in ast.walk(self._tree):
            is_later = getattr(one, "lineno", 0) > getattr(node, "lineno", 0) or not isinstance(
                value, ast.Name
            )
            if isinstance(one, (ast.Delete, ast.Assign)) and one is not node and is_later:
                targets = {ast.unparse(target) for target in one.targets}
                if whole in targets or text in targets:
                    return True
            if (
                isinstance(one, ast.Call)
                and isinstance(one.func, ast.Attribute)
                and (
                    one.func.attr in {"pop", "remove", "clear", "popleft", "popitem"}
                    and ast.unparse(one.func.value) == text
                )
            ):
                return True
        return isinstance(value, ast.Name) and any(
            isinstance(one, (ast.Delete,))
            or (isinstance(one, ast.Call) and getattr(one.func, "attr", "") in {"pop", "remove", "clear"})
            for one in ast.walk(self._tree)
        )

    def _repeated(self, node: ast.AST) -> None:
        """Report `[[]] * n` and `dict.fromkeys(keys, [])`, whose elements are one object."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.List):
            items = node.left.elts
        elif isinstance(node, ast.Call) and _is_method(node, "fromkeys") and len(node.args) > 1:
            items = [node.args[1]]
        else:
            return
        if any(isinstance(item, _MAKING) and is_mutable(self._reader.kinds.kind(item)) for item in items):
            self._report(ALIASING, node, f"makes many names for one object: {_text(node)}")

    # Defaults that remember

    def read_defaults(self) -> None:
        """Report a default that can change, and is changed: all calls share it."""
        function = self._reader.function
        report_defaults(
            function, self._reader.scope.function.__qualname__, self._tree, self._report, self._reader
        )


def report_defaults(
    function: FunctionType, _name: str, tree: ast.AST, report: Report, reader: Reader
) -> None:
    """Report the parameters whose mutable default the function changes."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    owner = None if reader.kinds._self is None else reader.kinds._owner  # noqa: SLF001  one package
    changed = changed_parameters(function, owner)
    for place, value in zip(range(len(names) - len(defaults), len(names)), defaults, strict=True):
        if place in changed and isinstance(value, _CONTAINERS):
            report(HIDDEN_STATE, tree, f"changes the default of {names[place]}, which all calls share")


def _is_method(node: ast.Call, *names: str) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in names


def _joined(ends: list[bool | None]) -> bool | None:
    reached = [end for end in ends if end is not None]
    return any(reached) if reached else None


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _stores(tree: ast.AST, effects: Effects) -> Iterator[tuple[ast.AST, ast.expr]]:
    """Yield (statement, value) of each value that is put into the state."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            if isinstance(node.value, (ast.Name, ast.Attribute, ast.Subscript, ast.Call)):
                for target in node.targets:
                    if isinstance(target, (ast.Attribute, ast.Subscript)) and effects.is_inside(target.value):
                        yield node, node.value
        elif isinstance(node, ast.Call) and node.args and _stores_argument(node, effects):
            yield node, node.args[-1]


def _stores_argument(node: ast.Call, effects: Effects) -> bool:
    function = node.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr in _STORING
        and effects.is_inside(function.value)
    )


def _on_one_path(first: ast.AST, second: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Return whether both may run in one call: not in two branches of one `if`."""
    for outer in _branches(first, parents):
        for other in _branches(second, parents):
            if outer[0] is other[0] and outer[1] != other[1]:
                return False
    return True


def _branches(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, ast.If):
            yield parent, "else" if node in parent.orelse else "then"
        if isinstance(parent, ast.match_case):
            yield parents[parent], ast.unparse(parent.pattern)
        node = parent


def _is_bound_between(tree: ast.AST, name: str, first: ast.AST, second: ast.AST) -> bool:
    low, high = getattr(first, "lineno", 0), getattr(second, "lineno", 0)
    return any(
        isinstance(one, ast.Name)
        and one.id == name
        and isinstance(one.ctx, ast.Store)
        and low < one.lineno <= high
        for one in ast.walk(tree)
    )


def _loop_around(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.AST | None:
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, (ast.For, ast.While)):
            return parent
        node = parent
    return None


def _binds(loop: ast.AST, name: str) -> bool:
    return any(
        isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Store)
        for one in ast.walk(loop)
    )


def _made_here(tree: ast.AST, name: str) -> bool:
    return any(
        isinstance(one, ast.Assign)
        and isinstance(one.value, (ast.List, ast.Dict, ast.Set, ast.Call, ast.ListComp, ast.DictComp))
        and any(isinstance(target, ast.Name) and target.id == name for target in one.targets)
        for one in ast.walk(tree)
    )


def recursive_calls(
    reader: Reader, owner: type | None, self_name: str | None
) -> Iterator[tuple[ast.Call, FunctionType]]:
    """Yield the calls of own methods and of functions, with what they call."""
    for node in ast.walk(reader.source.tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == self_name
        ):
            called = plain_function(inspect.getattr_static(owner, function.attr, None)) if owner else None
        elif isinstance(function, (ast.Name, ast.Attribute)):
            found = reader.scope.resolve(function)
            called = plain_function(found[0]) if found else None
        else:
            called = None
        if called is not None:
            yield node, called


def is_bounded(call: ast.Call, tree: ast.AST) -> bool:
    """Return whether a recursive call goes into a part of what it was given, or halves a number."""
    parameters = {
        argument.arg for one in ast.walk(tree) if isinstance(one, ast.arguments) for argument in one.args
    }
    parts = {
        inner.id
        for one in ast.walk(tree)
        if isinstance(one, (ast.For, ast.comprehension)) and _base_name(one.iter) in parameters
        for inner in ast.walk(one.target)
        if isinstance(inner, ast.Name)
    }
    for argument in [*call.args, *(word.value for word in call.keywords)]:
        if isinstance(argument, ast.BinOp) and isinstance(argument.op, _HALVING):
            return True
        if isinstance(argument, ast.Name) and argument.id in parts:
            return True
        if isinstance(argument, ast.Attribute) and _base_name(argument) in parameters - {"self"}:
            return True
        inside = isinstance(argument, ast.Subscript) and isinstance(argument.slice, ast.Constant)
        if inside and _base_name(argument) in parameters - {"self"}:
            return True
    return False


def _base_name(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) and node.id != "self" else ""


def nested_recursion(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield the calls by which a function inside the function calls itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node is not tree:
            for inner in ast.walk(node):
                if (
                    isinstance(inner, ast.Call)
                    and isinstance(inner.func, ast.Name)
                    and inner.func.id == node.name
                ):
                    yield inner, node
