"""The rules that concern a whole function: half-done commands, queries that change, aliases, recursion."""

import ast
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

from viewstamp.machine.lint.effects import Effects, changed_parameters, changes_name, plain_function
from viewstamp.machine.lint.raising import Raising
from viewstamp.machine.lint.reader import Reader
from viewstamp.machine.lint.set_order import parents_of
from viewstamp.machine.lint.types import is_mutable, origin_of, plain_or
from viewstamp.machine.rules import ALIASING, HALF_DONE, HIDDEN_STATE, QUERY_MUTATES, Rule

Report = Callable[[Rule, ast.AST, str], None]
_HALVING: Final = (ast.FloorDiv, ast.Mod, ast.RShift)
_MAKING: Final = (ast.List, ast.Dict, ast.Set, ast.Call)
_STORING: Final = frozenset({"append", "add", "appendleft", "insert", "setdefault", "update", "extend"})
_CONTAINERS: Final = (list, dict, set, bytearray)


class Flow:
    """One method of the machine as a whole."""

    def __init__(self, reader: Reader, effects: Effects, report: Report) -> None:
        self._reader = reader
        self._effects = effects
        self._report = report
        self._tree = reader.source.tree
        self._raising = Raising(reader, effects)

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
            why = self._raising.why(inner)
            if why is not None:
                self._half_done(inner, f"may raise {why} after it has changed the state: {_text(inner)}")
                return

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
        elif isinstance(node, (ast.ListComp, ast.DictComp)):
            self._repeated_name(node)
            return
        else:
            return
        if any(isinstance(item, _MAKING) and is_mutable(self._reader.kinds.kind(item)) for item in items):
            self._report(ALIASING, node, f"makes many names for one object: {_text(node)}")

    def _repeated_name(self, node: ast.ListComp | ast.DictComp) -> None:
        """Report `[row for _ in range(3)]`, where each turn stores the same object."""
        value = node.value if isinstance(node, ast.DictComp) else node.elt
        if not isinstance(value, ast.Name) or not is_mutable(self._reader.kinds.kind(value)):
            return
        bound = {
            one.id
            for generator in node.generators
            for one in ast.walk(generator)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        }
        if value.id not in bound:
            self._report(ALIASING, node, f"makes many names for one object: {_text(node)}")

    # Defaults that remember

    def read_defaults(self) -> None:
        """Report a default that can change, and is changed: all calls share it."""
        function = self._reader.function
        report_defaults(
            function, self._reader.scope.function.__qualname__, self._tree, self._report, self._reader
        )


def owner_of(reader: Reader) -> type | None:
    """Return the class whose method it is; None: of none."""
    return None if reader.self_name is None else reader.owner


def report_defaults(
    function: FunctionType, _name: str, tree: ast.AST, report: Report, reader: Reader
) -> None:
    """Report the parameters whose mutable default the function changes."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    for name, value in (function.__kwdefaults__ or {}).items():
        if isinstance(value, _CONTAINERS) and changes_name(function, owner_of(reader), name):
            report(HIDDEN_STATE, tree, f"changes the default of {name}, which all calls share")
    changed = changed_parameters(function, owner_of(reader))
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
            for target in node.targets:
                if isinstance(target, (ast.Attribute, ast.Subscript)) and effects.is_inside(target.value):
                    yield from ((node, value) for value in _stored_by(node.value))
        elif isinstance(node, ast.Call) and node.args and _stores_argument(node, effects):
            yield from ((node, value) for value in _stored_by(node.args[-1]))


def _stored_by(value: ast.expr) -> Iterator[ast.expr]:
    """Yield the objects that are stored with a value: those in a tuple, list or dict that is written out."""
    match value:
        case ast.Name() | ast.Attribute() | ast.Subscript() | ast.Call():
            yield value
        case ast.Tuple() | ast.List():
            for item in value.elts:
                yield from _stored_by(item)
        case ast.Dict():
            for item in value.values:
                yield from _stored_by(item)
        case _:
            return


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
    gathered = {
        target.id
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and isinstance(one.value, (ast.Tuple, ast.List, ast.IfExp))
        if set(_base_names(one.value)) <= parameters
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    parts = {
        inner.id
        for one in ast.walk(tree)
        if isinstance(one, (ast.For, ast.comprehension))
        if set(_base_names(one.iter)) <= parameters | gathered
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


def _base_names(node: ast.expr) -> Iterator[str]:
    """Yield the names of what a loop goes through: of both ways of a condition, of all in a tuple."""
    match node:
        case ast.IfExp():
            yield from _base_names(node.body)
            yield from _base_names(node.orelse)
        case ast.Tuple() | ast.List():
            for item in node.elts:
                yield from _base_names(item)
        case ast.Starred():
            yield from _base_names(node.value)
        case _:
            yield _base_name(node)


def _base_name(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) and node.id != "self" else ""


def nested_recursion(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield the calls by which a function or lambda inside the function calls itself."""
    for node in ast.walk(tree):
        name, body = "", node
        if isinstance(node, ast.FunctionDef) and node is not tree:
            name = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            name, body = getattr(node.targets[0], "id", ""), node.value
        for inner in ast.walk(body) if name else ():
            if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == name:
                yield inner, body
