"""The guard while a command runs: forbidden calls at their first use, whichever library makes them.

`sys.setprofile` names each call with its function object, on each supported Python alike and at no cost where
no guard is set. Only what runs between the call of a user's method and its return is watched, in its thread.

What is not accused: logging and imports, whatever they read; `hash` inside a `__hash__`, or of a number; `id`
and locks inside libraries, such as `copy.deepcopy`; a `Random` that was given a seed.
"""

import ast
import gc
import inspect
import io
import linecache
import random
import re
import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any, Final

from viewstamp.core.errors import ViewstampError
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.forbidden_calls import BY_RULE, MODULES, PURE, rule_of, rule_of_object
from viewstamp.machine.lint.source import allowed
from viewstamp.machine.rules import ENTROPY, HOST, IDENTITY, THREAD, Finding, Rule
from viewstamp.machine.state_machine import StateMachine

_TRUSTED: Final = frozenset({
    "logging", "warnings", "importlib", "_frozen_importlib", "_frozen_importlib_external", "linecache",
    "traceback", "encodings", "_pytest", "coverage", "zipimport", "abc", "enum", "typing", "inspect",
})  # fmt: skip
"""Modules whose calls of clocks, files and locks change no result of the command that calls them."""
_HASH: Final = re.compile(r"\bhash\(")
_NUMBERS: Final = (int, float, bool)

Runner = Callable[[Any], tuple[int, bytes]]


class ForbiddenCall(ViewstampError):
    """A command called what differs between replicas; it was stopped there. The text names rule and line."""


class Guard:
    """Watches the methods of one class. `findings` holds what it saw, each place once."""

    def __init__(self, machine: type, *, is_fatal: bool = False) -> None:
        """With `is_fatal` a finding ends the run: for the simulator. Else it is the command's exception."""
        self.findings: list[Finding] = []
        self._name = machine.__qualname__
        self._package = machine.__module__.split(".")[0]
        self._is_fatal = is_fatal
        self._builtins: dict[Any, tuple[Rule, str] | None] = {}
        self._codes: dict[int, tuple[CodeType, tuple[Rule, str] | None]] = {}
        self._harmless: set[type] = set()
        """Classes of objects whose methods are not looked at again."""
        self._forbidden = _forbidden_codes()
        self._made: list[random.Random] = []
        """Generators that were made during this command: they give what their seed says."""
        self._limit = sys.getrecursionlimit()

    def watched(self, run: Runner) -> Runner:
        """Return a runner that does the same under watch."""

        def run_watched(arguments: Any) -> tuple[int, bytes]:
            before, known, collects = sys.getprofile(), len(self.findings), gc.isenabled()
            self._made.clear()
            gc.disable()  # else finalizers of others would seem to be called here
            sys.setprofile(self._saw)
            try:
                outcome = run(arguments)
            finally:
                sys.setprofile(before)
                if collects:
                    gc.enable()
            if self._is_fatal and len(self.findings) > known:
                finding = self.findings[known]
                sys.setrecursionlimit(self._limit)
                raise InvariantViolated(str(finding.rule), str(finding))
            return outcome

        return run_watched

    # Called for each call and return

    def _saw(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            broken = self._of_builtin(argument)
        elif event == "call":
            broken = self._of_code(frame)
        else:
            return
        if broken is None:
            return
        try:
            self._judge(frame, *broken, is_builtin=event == "c_call")
        except ForbiddenCall:
            if event == "c_call":
                _let_go(argument)
            raise

    def _of_builtin(self, called: Any) -> tuple[Rule, str] | None:
        owner = getattr(called, "__self__", None)
        if owner is None or isinstance(owner, (ModuleType, type)):
            if called not in self._builtins:
                self._builtins[called] = rule_of(called)
            return self._builtins[called]
        if not isinstance(owner, random.Random):
            if called.__name__ == "__sizeof__":
                return IDENTITY, "__sizeof__"
            return self._of_object(owner)
        if any(owner is made for made in self._made):
            return None
        return rule_of(called) or (ENTROPY, f"{called.__name__} of a generator that outlives the command")

    def _of_object(self, owner: Any) -> tuple[Rule, str] | None:
        kind = type(owner)
        if kind in self._harmless:
            return None
        broken = rule_of_object(owner)
        if broken is None and not issubclass(kind, io.IOBase):  # of streams each is looked at by itself
            self._harmless.add(kind)
        return broken

    def _of_code(self, frame: FrameType) -> tuple[Rule, str] | None:
        code = frame.f_code
        if code is _SEEDED:
            self._made.append(frame.f_locals["self"])
        known = self._codes.get(id(code))
        if known is None:
            known = self._codes[id(code)] = (code, self._rule_of_code(frame))
        broken = known[1]
        if broken is None or code is not _SEEDED:
            return broken
        return broken if frame.f_locals.get("x") is None else None

    def _rule_of_code(self, frame: FrameType) -> tuple[Rule, str] | None:
        code = frame.f_code
        if code is _SEEDED:
            return ENTROPY, "random.Random without a seed"
        for forbidden, broken in self._forbidden:
            if forbidden is code:
                return broken
        module = str(frame.f_globals.get("__name__", ""))
        name = f"{module}.{code.co_qualname}"
        parts = module.split(".")
        if name.startswith("os._createenviron."):
            return HOST, "os.environ"
        if name in PURE or f"{module}.{code.co_qualname.split('.')[0]}" in PURE or code.co_name == "<module>":
            return None
        for length in range(len(parts), 0, -1):
            rule = MODULES.get(".".join(parts[:length]))
            if rule is not None:
                return rule, name
        return None

    # Judged

    def _judge(self, frame: FrameType, rule: Rule, name: str, *, is_builtin: bool) -> None:
        caller = frame if is_builtin else frame.f_back
        own, is_trusted = self._own_frame(caller)
        if is_trusted or own is None:
            return
        if own is not caller and (rule is IDENTITY or (rule is THREAD and is_builtin)):
            return  # libraries use identities and locks without showing them
        if name == "builtins.hash" and _is_of_number(own):
            return
        file, line = own.f_code.co_filename, own.f_lineno
        if rule.code in _allowed_at(file, line) or _is_allowed_for(own.f_code, rule):
            return
        what = f"calls {name.removeprefix('builtins.')}"
        if own is not caller and caller is not None:
            what += f" by way of {caller.f_code.co_qualname}"
        finding = Finding(rule, own.f_code.co_qualname, f"{what}, which differs between replicas", file, line)
        if finding not in self.findings:
            self.findings.append(finding)
        raise ForbiddenCall(str(finding))

    def _own_frame(self, frame: FrameType | None) -> tuple[FrameType | None, bool]:
        """Return the innermost frame of the user's package, and whether something trusted lies above it."""
        outermost: FrameType | None = None
        while frame is not None and frame.f_code is not _RUN:
            root = str(frame.f_globals.get("__name__", "")).split(".")[0]
            if root in _TRUSTED or frame.f_code.co_name == "__hash__":
                return None, True
            if root == self._package and not _is_machinery(frame):
                return frame, False
            if not _is_machinery(frame):
                outermost = frame
            frame = frame.f_back
        return outermost, False


def _let_go(called: Any) -> None:
    """Release the lock whose release was forbidden: else the next command waits for it forever."""
    if called.__name__ in {"release", "__exit__"} and hasattr(called.__self__, "acquire"):
        called.__self__.release()


def _is_machinery(frame: FrameType) -> bool:
    """Return whether it is a frame of the library between the runner and the user's method."""
    return str(frame.f_globals.get("__name__", "")).startswith(("viewstamp.machine.", "functools"))


def _forbidden_codes() -> list[tuple[CodeType, tuple[Rule, str]]]:
    """Return the code of each forbidden function that is written in Python and was imported by somebody."""
    found = []
    for rule, names in BY_RULE.items():
        for name in names:
            module, _, attribute = name.rpartition(".")
            function = getattr(sys.modules.get(module), attribute, None)
            code = getattr(function, "__code__", None)
            if code is not None:
                found.append((code, (rule, name)))
    return found


def _is_of_number(frame: FrameType) -> bool:
    """Return whether each `hash(...)` on the line where a frame stands is that of a number."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    given = [_argument(line[found.end() :]) for found in _HASH.finditer(line)]
    return bool(given) and all(node is not None and _is_number(node, frame) for node in given)


def _argument(text: str) -> ast.expr | None:
    """Return the expression that stands before the closing bracket."""
    for place, letter in enumerate(text):
        if letter == ")":
            try:
                return ast.parse(text[:place].strip(), mode="eval").body
            except SyntaxError:
                continue
    return None


def _is_number(node: ast.expr, frame: FrameType) -> bool:
    match node:
        case ast.Tuple():
            return all(_is_number(item, frame) for item in node.elts)
        case ast.BinOp():
            return _is_number(node.left, frame) and _is_number(node.right, frame)
        case _:
            return isinstance(_value(node, frame), _NUMBERS)


def _value(node: ast.expr, frame: FrameType) -> Any:
    """Return what a name or an attribute stands for, without running anything of the user's; else None."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return frame.f_locals.get(node.id)
        case ast.Attribute():
            owner = _value(node.value, frame)
            if isinstance(owner, StateMachine) and node.attr == "context":
                return owner.context
            found = inspect.getattr_static(owner, node.attr, None)
            return found.__get__(owner) if inspect.ismemberdescriptor(found) else found
        case _:
            return None


def _allowed_at(file: str, line: int) -> frozenset[str]:
    above = linecache.getline(file, line - 1)
    allowed_above = allowed(above.rstrip()) if above.lstrip().startswith("#") else frozenset()
    return allowed(linecache.getline(file, line).rstrip()) | allowed_above


def _is_allowed_for(code: CodeType, rule: Rule) -> bool:
    """Return whether a comment at the head of the function allows the rule in all of it."""
    first = code.co_firstlineno
    return any(
        rule.code in allowed(linecache.getline(code.co_filename, line).rstrip())
        for line in (first - 1, first, first + 1)
        if _is_head(linecache.getline(code.co_filename, line))
    )


def _is_head(line: str) -> bool:
    return line.lstrip().startswith(("#", "@", "def "))


_SEEDED: Final = random.Random.__init__.__code__
_RUN: Final = next(
    constant
    for constant in Guard.watched.__code__.co_consts
    if isinstance(constant, CodeType) and constant.co_name == "run_watched"
)
"""The code below which everything is watched."""
