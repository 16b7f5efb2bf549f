"""Whether the code of a class does something else than the class that ran, without a new version.

What was executed is executed again (`replica.compatibility`), but the log may hold no call that shows the
change. So what the code is made of is compared as well: `machine.interface.code_of`, which a data directory
records when a server starts on it.
"""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from inspect import getattr_static
from types import FunctionType
from typing import Final

from viewstamp.machine.behaviour import DEFAULTS, MADE, Element, asks_for_version, behaviour_of, functions_of
from viewstamp.machine.class_traits import GIVEN, METHODS, PLACE
from viewstamp.machine.code_text import comparable, tree_of
from viewstamp.machine.evolution import migrations_of, removed_attributes, version_of
from viewstamp.machine.interface import BEHAVIOUR, NORMAL, QUERY, differences, query_interface_of, texts_of
from viewstamp.machine.schema import parts_of
from viewstamp.machine.state_machine import Operation, StateMachine

_PLAIN: Final = re.compile(r"<?[^ (\[]*")
_NUMBER: Final = re.compile(r" \d+(?=(\(\))?$)")
_SHAPE: Final = {
    METHODS: "has other special or overriding methods",
    PLACE: "stands behind another one",
    DEFAULTS: "has other defaults",
    MADE: "is made in another way, by its decorator or base,",
}
"""What is said of the elements whose names end so."""
_CALLED_BY_REPLICAS: Final = ("session_ended", "pending_notifications", "pending_notifications_for")


def code_problems(
    cls: type[StateMachine], before: Mapping[str, str], in_force: int, allow: Collection[str]
) -> Iterator[str]:
    """Yield what does something else than `before` (`machine.interface.code_of`), unversioned."""
    behaviour = _named(before, NORMAL)
    plain = {} if behaviour else _named(before, BEHAVIOUR)
    if not behaviour and not plain:  # an earlier program recorded the text of the methods alone
        texts, elements = texts_of(cls), behaviour_of(cls)
        for name, text in before.items():
            if name not in allow and text and texts.get(name, text) not in {text, ""}:
                yield from _refusal(cls, f"{name}()", elements.get(f"{name}()"), in_force)
        return
    recorded = behaviour or plain
    for name, element in behaviour_of(cls, plain=bool(plain)).items():
        if _differs(recorded.get(name), element.digest) and not _is_allowed(name, allow):
            yield from _refusal(cls, name, element, in_force)
    for problem in differences(query_interface_of(cls), _named(before, QUERY)):
        if not _is_allowed(problem, allow):
            yield f"{problem}: clients of the class that runs call it as it was"


def uses_of_removed(cls: type[StateMachine], allow: Collection[str]) -> Iterator[str]:
    """Yield the methods that use what a migration removes, without a look at the version in force."""
    for prefix, part in parts_of(cls, ""):
        removed = removed_attributes(part)
        if removed:
            remover = {name: one.name for one in migrations_of(part) for name in one.removes}
            for method, attribute in _uses(part, removed):
                if not _is_allowed(f"{prefix}{method}", allow):
                    yield (
                        f"{prefix}{method}() uses self.{attribute}, which {remover[attribute]}() removes at "
                        f"version {removed[attribute]}: let it depend on self.context.version"
                    )


def _named(code: Mapping[str, str], mark: str) -> dict[str, str]:
    return {name.removeprefix(mark): text for name, text in code.items() if name.startswith(mark)}


def _differs(before: str | None, now: str) -> bool:
    # What is new is reached by something that has changed itself, or by nothing that was there.
    return before is not None and comparable(before, now) and before != now


def _is_allowed(name: str, allow: Collection[str]) -> bool:
    """Return whether a name, or what it is a part of, is allowed to change."""
    return name in allow or _plain(name) in allow


def _plain(name: str) -> str:
    """Return a name without what it is a part of, and without the number of one of several."""
    return _PLAIN.match(name)[0]  # type: ignore[index]


def _refusal(cls: type[StateMachine], name: str, element: Element | None, in_force: int) -> Iterator[str]:
    what, instead = _what_changed(_NUMBER.sub("", name))
    allowing = f"allow the change with --allow {_plain(name)}"
    if version_of(cls) == in_force:
        yield f"{what}, and version is {in_force} as before: raise it, or {allowing}"
    elif element is None or not element.asks_for_version:
        yield f"{what} whatever version is in force: {instead}, or {allowing}"


def _what_changed(name: str) -> tuple[str, str]:
    """Return what is wrong with a name, and what to do instead."""
    keep = "keep it, and let commands choose another one by self.context.version"
    if said := _what_moved(name):
        return f"{said} than before", keep
    if name.endswith("()"):
        return f"{name} does something else than before", "let it depend on self.context.version"
    if name.endswith("="):
        return f"{name.removesuffix(' =')} has another default than before", keep
    if name.endswith(("]", ")")):
        return f"{name} has another constraint than before", keep
    return f"{name} has another value than before", keep


def _what_moved(name: str) -> str:
    """Return what is otherwise than before of a class's shape (`machine.class_traits`); empty: nothing."""
    if GIVEN in name:
        function, _, cls = name.partition(GIVEN)
        return f"{function} gives the values of {cls} by place to other fields"
    for ending, said in _SHAPE.items():
        if name.endswith(ending):
            return f"{name.removesuffix(ending)} {said}"
    return ""


def _uses(cls: type[StateMachine], removed: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the methods, reached without a look at the version, that name one of these attributes."""
    names = [name for name in dir(cls) if isinstance(getattr_static(cls, name), Operation)]
    pending, seen = [*names, *_CALLED_BY_REPLICAS], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for function in functions_of(getattr_static(cls, name, None)):
            named = _of_self(function)
            yield from ((name, attribute) for attribute in sorted(named) if attribute in removed)
            pending += named


def _of_self(function: FunctionType) -> set[str]:
    """Return what a method names of its instance; nothing where it looks at the version in force."""
    tree = tree_of(function)
    if tree is None or asks_for_version(tree, StateMachine) or not tree.args.args:
        return set()
    me = tree.args.args[0].arg
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == me}
