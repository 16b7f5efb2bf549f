"""Reads one function for what makes replicas differ, expression by expression."""

import ast
import inspect
from collections.abc import Callable
from random import Random
from types import FunctionType, ModuleType
from typing import Any, Final

from viewstamp.machine.forbidden_calls import (
    host_value,
    is_environment,
    is_path_type,
    looks_at_disk,
    rule_of,
)
from viewstamp.machine.lint.float_text import FloatText, called_name, is_of_log
from viewstamp.machine.lint.mutators import MUTATORS
from viewstamp.machine.lint.scope import Scope
from viewstamp.machine.lint.set_order import SetOrder, parents_of
from viewstamp.machine.lint.source import Source, source_of
from viewstamp.machine.lint.types import Inference, Kind, Mark, hints_of, is_mutable, plain_or
from viewstamp.machine.rules import (
    ALIASING,
    BATCH,
    CLOCK,
    CONTEXT_KEPT,
    ENTROPY,
    FLOAT_TEXT,
    HIDDEN_STATE,
    HOST,
    IDENTITY,
    INPUT_OUTPUT,
    SET_ORDER,
    SWALLOWED,
    Rule,
)

FAILURES: Final = (MemoryError, RecursionError, BaseException, KeyboardInterrupt, SystemExit, GeneratorExit)
_HASHABLE: Final = (int, bool, float)
_CACHES: Final = ("lru_cache", "cache", "_lru_cache_wrapper")

Report = Callable[[Rule, ast.AST, str], None]


class Reader(ast.NodeVisitor):
    """One function under the rules that concern single expressions."""

    def __init__(
        self,
        function: FunctionType,
        source: Source,
        *,
        owner: type | None,
        self_name: str | None,
        attributes: dict[str, Kind],
        is_query: bool,
        report: Report,
        given: dict[str, Kind] | None = None,
    ) -> None:
        self.function = function
        self.source = source
        self.owner = owner
        self.scope = Scope(function, source.tree, self_name, owner)
        self.kinds = Inference(attributes, self_name, self.scope.resolve, owner)
        self.self_name = self_name
        self._is_query = is_query
        self._report = report
        self._parents = parents_of(source.tree)
        self.annotations = _annotation_nodes(source.tree)
        for name, hint in {**(given or {}), **hints_of(function)}.items():
            if name != "return":
                self.kinds.names[name] = hint
        self.kinds.learn(source.tree)
        self.sets = SetOrder(self.kinds, source.tree)
        self.texts = FloatText(self.kinds, source.tree, self._parents, is_query=is_query)
        self.called: list[tuple[FunctionType, dict[str, Kind]]] = []
        """Functions outside the class that it calls, with the kinds of what it gives them."""
        self.made: list[type] = []
        """Classes of which it makes instances, or calls methods."""

    def read(self) -> None:
        """Report everything in the body."""
        for statement in self.source.tree.body:
            self.visit(statement)

    def visit(self, node: ast.AST) -> None:
        """Visit a node, unless it is an annotation."""
        if node not in self.annotations:
            super().visit(node)

    # Names and attributes

    def visit_Name(self, node: ast.Name) -> None:
        """Judge a name that is read."""
        if isinstance(node.ctx, ast.Load):
            self._outside_read(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Judge an attribute that is read."""
        if isinstance(node.ctx, ast.Load) and not self._outside_read(node):
            self._host_read(node)
        if node.attr == "__dict__" and isinstance(node.ctx, ast.Load):
            self.visit(node.value)
            return
        self.generic_visit(node)

    def _host_read(self, node: ast.Attribute) -> None:
        outer = self.scope.resolve(node.value)
        if outer is not None and isinstance(outer[0], ModuleType):
            value = host_value(outer[0], node.attr)
            if value is not None:
                rule = HIDDEN_STATE if value == "sys.modules" else HOST
                self._report(rule, node, f"reads {value}, which each host has of its own")

    def _outside_read(self, node: ast.Name | ast.Attribute) -> bool:
        """Report a name that stands for something that differs; return whether it did."""
        found = self.scope.resolve(node)
        if found is None or self._is_mere_alias(node):
            return False
        value = found[0]
        if is_environment(value):
            self._report(HOST, node, "reads os.environ, which each host has of its own")
            return True
        if not callable(value) or isinstance(self._parents.get(node), ast.Attribute):
            return False
        broken = rule_of(value)
        if broken is None or self._is_allowed_call(node, value):
            return False
        rule, name = broken
        self._report(rule, node, f"uses {_short(name)}, which differs between replicas")
        return True

    def is_in_log(self, node: ast.AST) -> bool:
        """Return whether it is only written to a log."""
        parent = self._parents.get(node)
        while parent is not None and not is_of_log(parent):
            parent = self._parents.get(parent)
        return parent is not None

    def _is_mere_alias(self, node: ast.expr) -> bool:
        parent = self._parents.get(node)
        return isinstance(parent, (ast.arguments, ast.ExceptHandler))

    def _is_allowed_call(self, node: ast.expr, value: Any) -> bool:
        parent = self._parents.get(node)
        if (
            isinstance(parent, ast.Call)
            and node in parent.args
            and called_name(parent) in {"isinstance", "issubclass"}
        ):
            return True
        if value is hash:
            if self.function.__name__ == "__hash__":
                return True
            given = (
                parent.args[0]
                if isinstance(parent, ast.Call) and parent.args and parent.func is node
                else None
            )
            return given is not None and plain_or(self.kinds.kind(given)) in _HASHABLE
        return False

    # Calls

    def visit_Call(self, node: ast.Call) -> None:
        """Judge a call, and remember what it calls."""
        self._generator_made(node)
        self._generator_used(node)
        self._path_used(node)
        self._hidden_method(node)
        self._reported(FLOAT_TEXT, node, self.texts.of_call(node))
        self._time_without_argument(node)
        self._own_hash(node)
        text = self.sets.of_call(node)
        if text is not None:
            self._report(SET_ORDER, node, text)
        self._context_stored(node)
        self._follow(node)
        self.generic_visit(node)

    def _context_stored(self, node: ast.Call) -> None:
        """A context that is appended somewhere is kept as well as one that is assigned."""
        if not (isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS):
            return
        for argument in node.args:
            if self._is_context(argument):
                self._report(CONTEXT_KEPT, node, f"keeps {ast.unparse(argument)} beyond the command")

    def _is_context(self, value: ast.expr) -> bool:
        kind = self.kinds.kind(value)
        return kind is Mark.CONTEXT or (kind is Random and self._is_of_context(value))

    def _own_hash(self, node: ast.Call) -> None:
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "__hash__"
            and self.scope.resolve(node.func) is None
        ):
            self._report(IDENTITY, node, "calls __hash__, which differs between processes")

    def _time_without_argument(self, node: ast.Call) -> None:
        """`time.gmtime()` and `time.strftime(f)` read the clock where they are given no time."""
        found = self.scope.resolve(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else None
        name = called_name(node)
        if name in {"fromtimestamp", "astimezone"} and not any(word.arg == "tz" for word in node.keywords):
            owner = getattr(found[0], "__self__", None) if found else None
            if len(node.args) == (0 if name == "astimezone" else 1) and (
                owner is not None or name == "astimezone"
            ):
                self._report(HOST, node, f"calls {ast.unparse(node.func)} in the time zone of its host")
        if found is None or getattr(found[0], "__module__", None) != "time":
            return
        needed = {"gmtime": 1, "asctime": 1, "strftime": 2}.get(getattr(found[0], "__name__", ""))
        if needed is not None and len(node.args) < needed:
            self._report(CLOCK, node, f"calls time.{found[0].__name__} without a time, which reads the clock")

    def _generator_made(self, node: ast.Call) -> None:
        found = self.scope.resolve(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else None
        if found is None:
            return
        is_ours = isinstance(found[0], type) and issubclass(found[0], Random)
        is_foreign = getattr(found[0], "__name__", "") in {"default_rng", "RandomState"}
        if not (is_ours or is_foreign) or node.keywords:
            return
        if not node.args or (isinstance(node.args[0], ast.Constant) and node.args[0].value is None):
            self._report(ENTROPY, node, f"makes {ast.unparse(node)} without a seed")

    def _generator_used(self, node: ast.Call) -> None:
        """A `Random` that outlives the command is advanced by each replica for itself."""
        if not isinstance(node.func, ast.Attribute):
            return
        found = self.scope.resolve(node.func.value)
        if found is None:
            return
        if isinstance(found[0], Random) and rule_of(getattr(found[0], node.func.attr, None)) is None:
            self._report(ENTROPY, node, f"draws from {ast.unparse(node.func.value)}, which no replica keeps")

    def _path_used(self, node: ast.Call) -> None:
        function = node.func
        if not (isinstance(function, ast.Attribute) and looks_at_disk(function.attr)):
            return
        if is_path_type(plain_or(self.kinds.kind(function.value))):
            self._report(INPUT_OUTPUT, node, f"calls {ast.unparse(function)}, which looks at the disk")

    def _hidden_method(self, node: ast.Call) -> None:
        """A method of an object of the module that changes this object."""
        function = node.func
        if not isinstance(function, ast.Attribute):
            return
        found = self.scope.resolve(function.value)
        if found is None or isinstance(found[0], (type, ModuleType, FunctionType)):
            return
        if type(found[0]).__module__ == "_contextvars" or type(found[0]).__name__ == "_local":
            self._report(HIDDEN_STATE, node, f"uses {ast.unparse(function.value)}, which no replica keeps")
            return
        method = inspect.getattr_static(type(found[0]), function.attr, None)
        if isinstance(method, FunctionType) and changes_itself(method):
            self._report(
                HIDDEN_STATE,
                node,
                f"calls {ast.unparse(function)}, which changes an object that no replica keeps",
            )

    def _follow(self, node: ast.Call) -> None:
        if isinstance(node.func, (ast.Name, ast.Attribute)):
            found = self.scope.resolve(node.func)
            if found is not None:
                self._follow_object(found[0], node)
                return
        if isinstance(node.func, ast.Attribute):
            base = plain_or(self.kinds.kind(node.func.value))
            if isinstance(base, type) and not isinstance(base, Mark):
                self.made.append(base)

    def _follow_object(self, called: Any, node: ast.Call) -> None:
        called = getattr(called, "__wrapped__", called) if type(called).__name__ in _CACHES else called
        if isinstance(called, type):
            self.made.append(called)
        elif (function := _function_behind(called)) is not None:
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            kinds = [self.kinds.kind(argument) for argument in node.args]
            self.called.append((function, dict(zip(names, kinds, strict=False))))

    # Sets

    def visit_For(self, node: ast.For) -> None:
        """Judge the order of a loop."""
        self._reported(SET_ORDER, node, self.sets.of_loop(node))
        self.generic_visit(node)

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> None:
        self._reported(SET_ORDER, node, self.sets.of_comprehension(node, self._parents.get(node)))
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        """Judge the order of what it makes."""
        self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        """Judge the order of what it makes."""
        self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        """Judge the order of what it makes."""
        self._comprehension(node)

    def visit_List(self, node: ast.List) -> None:
        """Judge a list that unpacks a set."""
        self._reported(SET_ORDER, node, self.sets.of_display(node))
        self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        """Judge a tuple that unpacks a set."""
        self._reported(SET_ORDER, node, self.sets.of_display(node))
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Judge a text made of values."""
        self._reported(SET_ORDER, node, self.sets.of_text(node))
        self._reported(FLOAT_TEXT, node, self.texts.of_text(node))
        self.generic_visit(node)

    def _reported(self, rule: Rule, node: ast.AST, text: str | None) -> None:
        if text is not None:
            self._report(rule, node, text)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Judge a text made by %, and arithmetic with a position."""
        self._reported(FLOAT_TEXT, node, self.texts.of_operator(node))
        self._reported(SET_ORDER, node, self.sets.of_operator(node))
        self._position_used(node, [node.left, node.right])
        self.generic_visit(node)

    # The context

    def visit_Compare(self, node: ast.Compare) -> None:
        """Judge a comparison with a position in the log."""
        self._position_used(node, [node.left, *node.comparators])
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Judge a key that is a position in the log."""
        if self.kinds.kind(node.value) is not Mark.POSITION:
            self._position_used(node, [node.slice])
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """Judge a condition that is a position in the log."""
        self._position_used(node, [node.test])
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Judge a condition that is a position in the log."""
        self._position_used(node, [node.test])
        self.generic_visit(node)

    def _position_used(self, node: ast.AST, parts: list[ast.expr]) -> None:
        for part in parts:
            inner = part.operand if isinstance(part, ast.UnaryOp) else part
            if isinstance(inner, ast.Call) and called_name(inner) in {"str", "repr"} and inner.args:
                inner = inner.args[0]
            if self.kinds.kind(inner) is Mark.POSITION and not isinstance(inner, ast.BinOp):
                what = ast.unparse(inner)
                self._report(BATCH, node, f"decides by {what}, which depends on how calls were batched")
                return

    # Assignments

    def visit_Assign(self, node: ast.Assign) -> None:
        """Judge what is kept."""
        for target in node.targets:
            self._reported(SET_ORDER, node, self.sets.of_unpacking(target, node.value))
            if self._is_of_self(target):
                self._kept(node, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Judge what is kept."""
        if node.value is not None:
            if self._is_of_self(node.target):
                self._kept(node, node.value)
            self.visit(node.value)
        self.visit(node.target)

    def _kept(self, node: ast.stmt, value: ast.expr) -> None:
        kind = self.kinds.kind(value)
        if self._is_context(value):
            self._report(CONTEXT_KEPT, node, f"keeps {ast.unparse(value)} beyond the command")
            return
        found = self.scope.resolve(value) if isinstance(value, (ast.Name, ast.Attribute)) else None
        if found is not None and isinstance(found[0], (list, dict, set, bytearray)):
            self._report(
                ALIASING, node, f"puts {ast.unparse(value)}, an object of the module, into its state"
            )
            return
        is_other_name = isinstance(value, ast.Attribute) and self._is_of_self(value) and is_mutable(kind)
        if is_other_name and not self._is_replaced_later(node, value):
            text = f"keeps one {_name_of_kind(kind)} under two names: {ast.unparse(node)}"
            self._report(ALIASING, node, text)

    def _is_of_context(self, value: ast.expr) -> bool:
        return any(
            self.kinds.kind(one) is Mark.CONTEXT for one in ast.walk(value) if isinstance(one, ast.expr)
        )

    def _is_replaced_later(self, node: ast.stmt, value: ast.expr) -> bool:
        """Return whether the other name gets an object of its own further down: a swap of two buffers."""
        wanted = ast.unparse(value)
        later = (
            one
            for one in ast.walk(self.source.tree)
            if isinstance(one, ast.Assign) and one.lineno > node.lineno
        )
        return any(ast.unparse(target) == wanted for one in later for target in one.targets)

    def _is_of_self(self, node: ast.expr) -> bool:
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        return isinstance(node, ast.Name) and node.id == self.self_name and self.self_name is not None

    # Failures

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Judge what is caught."""
        raises_again = any(isinstance(one, ast.Raise) for one in ast.walk(node))
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        for each in caught:
            found = None if each is None else self.scope.resolve(each)
            if not raises_again and (each is None or (found is not None and found[0] in FAILURES)):
                what = "everything" if each is None else ast.unparse(each)
                self._report(SWALLOWED, node, f"catches {what}, which each Python raises at another place")
        self.generic_visit(node)


def changes_itself(method: FunctionType) -> bool:
    """Return whether a method assigns to what its first parameter holds, or calls what changes it."""
    source = source_of(method)
    if source is None or not source.tree.args.args:
        return False
    name = source.tree.args.args[0].arg
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            base: ast.expr = node
            while isinstance(base, (ast.Attribute, ast.Subscript)):
                base = base.value
            if isinstance(base, ast.Name) and base.id == name:
                return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            base = node.func.value
            if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id == name:
                return True
    return False


def _function_behind(called: Any) -> FunctionType | None:
    behind = called.__func__ if isinstance(called, (staticmethod, classmethod)) else called
    return behind if isinstance(behind, FunctionType) else None


def _annotation_nodes(tree: ast.AST) -> set[ast.AST]:
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(annotation, ast.AST):
            found.add(annotation)
    return found


def _name_of_kind(kind: Kind) -> str:
    kind = plain_or(kind)
    return getattr(kind, "__name__", str(kind))


def _short(name: str) -> str:
    return (
        name.removeprefix("builtins.")
        .replace("datetime.datetime", "datetime")
        .replace("datetime.date.", "date.")
    )
