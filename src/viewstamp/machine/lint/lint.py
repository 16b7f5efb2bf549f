"""Which functions are read for a class, and what is reported of them."""

import ast
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final

from viewstamp.machine.evolution import migrations_of
from viewstamp.machine.lint import flow
from viewstamp.machine.lint.effects import Effects, plain_function
from viewstamp.machine.lint.flow import Flow
from viewstamp.machine.lint.mutators import MUTATORS
from viewstamp.machine.lint.outside_reader import OutsideReader
from viewstamp.machine.lint.reader import Reader
from viewstamp.machine.lint.saving import altered, forgotten
from viewstamp.machine.lint.source import Source, module_tree, source_of
from viewstamp.machine.lint.types import Kind, hints_of, origin_of, plain_or
from viewstamp.machine.rules import (
    CONTEXT_KEPT,
    HIDDEN_STATE,
    RECURSION,
    RESTORE_DIFFERS,
    SNAPSHOT_OMITS,
    UNDECLARED,
    Finding,
    Rule,
    UnsoundMachine,
)
from viewstamp.machine.soundness import require_sound
from viewstamp.machine.state_machine import Operation, StateMachine, annotated_state

_FUNCTIONS_MAX: Final = 500
"""Functions that are read for one class."""
_HOOKS: Final = (
    "__init__", "snapshot", "restore", "session_ended", "pending_notifications", "pending_notifications_for",
)  # fmt: skip
"""Methods that a replica calls beside commands, queries and migrations."""
_QUERIES: Final = frozenset(("snapshot", "pending_notifications", "pending_notifications_for"))
"""Those of them that may change nothing."""
_LIBRARY: Final = "viewstamp."


def lint_machine(cls: type[StateMachine]) -> list[Finding]:
    """Return what in this class, and in what it calls in its package, makes replicas differ; by line.

    Nothing is run. What is allowed by a comment with a reason (`# viewstamp: allow VS003 ...`) is left out.

    Raises:
        ConfigurationError: it is not a machine's class.
    """
    found: list[Finding] = []
    for part in _parts(cls):
        found += _Lint(part).read()
    return found


def _parts(cls: type[StateMachine]) -> Iterator[type[StateMachine]]:
    if cls.parts:
        for part in cls.parts.values():
            yield from _parts(part)
    else:
        yield cls


class _Lint:
    def __init__(self, cls: type[StateMachine]) -> None:
        self._cls = cls
        self._found: dict[tuple[str, str, int], Finding] = {}
        self._package = cls.__module__.split(".")[0]
        self._seen: set[FunctionType] = set()
        self._attributes: dict[str, Kind] = dict(annotated_state(cls))
        self._flows: list[tuple[Flow, FunctionType, Source]] = []
        self._readers: dict[FunctionType, tuple[Reader, type | None, str | None]] = {}
        self._changed_kinds: set[Any] = set()

    def read(self) -> list[Finding]:
        """Read everything that can be reached, and return the findings by file and line."""
        for name, function, is_query in self._roots():
            self._read(function, self._cls, is_query=is_query, role=name)
        for caught in self._caches():
            self._note(HIDDEN_STATE, caught, None, "is cached, and no snapshot holds what the cache holds")
        for read, function, source in self._flows:
            read.read_aliases(self._changed_kinds)
            del function, source
        self._read_recursion()
        for attribute, function, which in forgotten(self._cls):
            rule = SNAPSHOT_OMITS if which == "snapshot" else RESTORE_DIFFERS
            verb = "does not write" if which == "snapshot" else "does not set"
            self._note(rule, function, None, f"{verb} {attribute}, which commands change")
        for rule, function, node, text in altered(self._cls):
            self._note(rule, function, node, text)
        self._refused()
        self._drop_vaguer()
        return sorted(
            self._found.values(), key=lambda finding: (finding.file, finding.line, finding.rule.code)
        )

    def _drop_vaguer(self) -> None:
        """Leave out that something outside remembers, where a line keeps the context there."""
        kept = {(file, line) for code, file, line in self._found if code == CONTEXT_KEPT.code}
        if not kept:
            return
        self._found = {key: one for key, one in self._found.items() if key[0] != HIDDEN_STATE.code}

    def _refused(self) -> None:
        """Add what the class is refused for before it serves, unless that was reported."""
        try:
            require_sound(self._cls)
        except UnsoundMachine as error:
            known = {finding.rule for finding in self._found.values()}
            if error.rule in known or (error.rule is HIDDEN_STATE and known):
                return
            if error.rule is UNDECLARED and HIDDEN_STATE in known:  # the class keeps it for all of them
                return
            text = str(error).removeprefix(self._cls.__qualname__).removeprefix(".")
            finding = Finding(error.rule, self._cls.__qualname__, text, *_place(self._cls))
            self._found[error.rule.code, "", 0] = finding

    # What is read

    def _roots(self) -> Iterator[tuple[str, FunctionType, bool]]:
        """Yield (name, function, whether it may change nothing) of what a replica calls."""
        for _, member in inspect.getmembers_static(self._cls):
            if isinstance(member, Operation):
                function = plain_function(member)
                if function is not None:
                    yield member.kind, function, member.kind == "query"
        for name in (*_HOOKS, *(migration.name for migration in migrations_of(self._cls))):
            function = plain_function(inspect.getattr_static(self._cls, name, None))
            if function is not None and not function.__module__.startswith("viewstamp.machine."):
                yield name, function, name in _QUERIES

    def _caches(self) -> Iterator[FunctionType]:
        for owner in self._cls.__mro__:
            for member in vars(owner).values():
                inner = member.function if isinstance(member, Operation) else member
                if type(inner).__name__ == "_lru_cache_wrapper":
                    function = plain_function(inner)
                    if function is not None:
                        yield function

    def _is_ours(self, function: FunctionType) -> bool:
        """Return whether a function belongs to the package of the class."""
        module = function.__module__ or ""
        if function.__globals__ is getattr(sys.modules.get(self._cls.__module__), "__dict__", None):
            return True
        if module.startswith(_LIBRARY) and not self._cls.__module__.startswith(_LIBRARY):
            return False
        return module.split(".")[0] == self._package

    def _read(
        self,
        function: FunctionType,
        owner: type | None,
        *,
        is_query: bool,
        role: str = "",
        given: dict[str, Kind] | None = None,
    ) -> None:
        if function in self._seen or len(self._seen) >= _FUNCTIONS_MAX or not self._is_ours(function):
            return
        self._seen.add(function)
        source = source_of(function)
        if source is None:
            return
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        self_name = names[0] if owner is not None and names and not _is_static(owner, function) else None

        def report(rule: Rule, node: ast.AST, text: str) -> None:
            self._note(rule, function, node, text, source)

        attributes = self._attributes if owner is self._cls else hints_of(owner) if owner else {}
        reader = Reader(
            function, source, owner=owner, self_name=self_name, attributes=attributes,
            is_query=is_query, report=report, given=given,
        )  # fmt: skip
        reader.read()
        self._readers[function] = (reader, owner, self_name)
        self._read_flow(reader, owner, self_name, role, report)
        around = OutsideReader(reader, report)
        around.read()
        self._read_globals(reader, source, report)
        self._go_on(reader, owner, self_name, is_query=is_query, role=role)
        for reached in around.functions:
            self._read(reached, None, is_query=is_query)

    def _read_flow(
        self, reader: Reader, owner: type | None, self_name: str | None, role: str, report: Any
    ) -> None:
        effects = Effects(
            reader.function, reader.source.tree, {self_name} if self_name else set(),
            owner=owner, self_name=self_name, kinds=reader.kinds, scope=reader.scope,
        )  # fmt: skip
        whole = Flow(reader, effects, report)
        flow.report_defaults(reader.function, "", reader.source.tree, report, reader)
        if owner is not self._cls or self_name is None:
            return
        self._flows.append((whole, reader.function, reader.source))
        self._changed_kinds |= _kinds_changed(reader)
        if role == "query":
            whole.read_query()
        elif role == "command":
            whole.read_command()

    def _read_globals(self, reader: Reader, source: Source, report: Any) -> None:
        """Report what is read of the module and is changed somewhere in the module."""
        module = sys.modules.get(reader.function.__module__)
        changed = _changed_globals(module)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in changed:
                if node.id not in reader.scope.bound and node.id in reader.function.__globals__:
                    report(HIDDEN_STATE, node, f"reads {node.id}, which the module changes while it runs")
            elif isinstance(node, ast.Global):
                report(
                    HIDDEN_STATE,
                    node,
                    f"writes {', '.join(node.names)} of its module, which no replica keeps",
                )

    def _go_on(
        self, reader: Reader, owner: type | None, self_name: str | None, *, is_query: bool, role: str
    ) -> None:
        for node in ast.walk(reader.source.tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == self_name
            ):
                function = plain_function(inspect.getattr_static(owner, node.attr, None)) if owner else None
                if function is not None:
                    self._read(
                        function, owner, is_query=is_query, role="command" if role == "command" else ""
                    )
        for function, given in reader.called:
            self._read(function, None, is_query=is_query, given=given)
        for made in reader.made:
            if issubclass(self._cls, made):
                continue
            for member in vars(made).values():
                function = plain_function(member)
                if function is not None and made.__module__.split(".")[0] == self._package:
                    self._read(function, made, is_query=is_query)

    def _read_recursion(self) -> None:
        calls = {
            function: list(flow.recursive_calls(reader, owner, self_name))
            for function, (reader, owner, self_name) in self._readers.items()
        }
        for function, (reader, _, _) in self._readers.items():
            for node, called in calls[function]:
                back = called is function or _reaches(called, function, calls)
                if back and not flow.is_bounded(node, reader.source.tree):
                    self._note(
                        RECURSION, function, node, f"calls itself by {ast.unparse(node)}", reader.source
                    )
            for node, inner in flow.nested_recursion(reader.source.tree):
                if not flow.is_bounded(node, inner):
                    self._note(
                        RECURSION, function, node, f"calls itself by {ast.unparse(node)}", reader.source
                    )

    def _note(
        self,
        rule: Rule,
        function: FunctionType,
        node: ast.AST | None,
        text: str,
        source: Source | None = None,
    ) -> None:
        source = source or source_of(function)
        line = function.__code__.co_firstlineno
        if source is not None:
            at = node if node is not None else source.tree
            if source.allows(rule.code, at):
                return
            line = source.line(at)
        file = function.__code__.co_filename
        self._found.setdefault(
            (rule.code, file, line), Finding(rule, function.__qualname__, text, file, line)
        )


def _is_static(owner: type, function: FunctionType) -> bool:
    return isinstance(inspect.getattr_static(owner, function.__name__, None), staticmethod)


def _place(cls: type) -> tuple[str, int]:
    try:
        return inspect.getsourcefile(cls) or "", inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return "", 0


def _reaches(
    start: FunctionType, end: FunctionType, calls: dict[FunctionType, list[tuple[ast.Call, FunctionType]]]
) -> bool:
    waiting, seen = [start], {start}
    while waiting:
        for _, called in calls.get(waiting.pop(), []):
            if called is end:
                return True
            if called not in seen:
                seen.add(called)
                waiting.append(called)
    return False


def _kinds_changed(reader: Reader) -> set[Any]:
    """Return the kinds of objects of which an attribute is set in this function."""
    found = set()
    for node in ast.walk(reader.source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            kind = plain_or(reader.kinds.kind(node.value))
            found.add(origin_of(kind))
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS
        ):
            inner = node.func.value
            if isinstance(inner, ast.Attribute):
                found.add(origin_of(plain_or(reader.kinds.kind(inner.value))))
    return found


_CHANGED: Final[dict[Any, frozenset[str]]] = {}


def _changed_globals(module: Any) -> frozenset[str]:
    """Return the names of a module whose objects some function of it changes or replaces."""
    if module is None:
        return frozenset()
    if module not in _CHANGED:
        tree = module_tree(module)
        _CHANGED[module] = frozenset() if tree is None else frozenset(_changed_in(tree))
    return _CHANGED[module]


def _changed_in(tree: ast.Module) -> Iterator[str]:
    top = {
        target.id
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                yield from (
                    name for name in _names_changed(node) if name in top and not _is_local(function, name)
                )


def _names_changed(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Global):
        return node.names
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
        return [node.value.id] if isinstance(node.value, ast.Name) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return [node.func.value.id] if isinstance(node.func.value, ast.Name) else []
    return []


def _is_local(function: ast.AST, name: str) -> bool:
    if any(isinstance(one, ast.Global) and name in one.names for one in ast.walk(function)):
        return False
    return any(
        (isinstance(one, ast.arg) and one.arg == name)
        or (isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Store))
        for one in ast.walk(function)
    )
