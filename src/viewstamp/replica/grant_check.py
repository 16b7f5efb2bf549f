"""Grants that do nothing: they name what exists nowhere, which nobody would notice otherwise."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR, Role, is_name
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.replica.authorization import Grant

_NAMED: Final = tuple(f"{role.value}/" for role in (Role.CLIENT, Role.OPERATOR, Role.NODE))
_GLOB: Final = "*?["


def idle_grants(grants: Sequence[Grant], definition: MachineDefinition | None) -> Iterator[str]:
    """Yield what is odd in these grants, a line each; `definition` None: the class is not known."""
    for grant in grants:
        if not _names_somebody(grant.principal):
            yield (
                f"[[grants]] names the principal {grant.principal!r}, which nobody can be: principals are "
                f"client/NAME, operator/NAME, {LOCAL_OPERATOR} and {ANONYMOUS}"
            )
        if definition is not None:
            yield from _idle_methods(grant, definition)


def _idle_methods(grant: Grant, definition: MachineDefinition) -> Iterator[str]:
    for wanted in grant.methods:
        found = [each for each in definition.methods.values() if fnmatchcase(each.name, wanted)]
        if not found:
            yield (
                f"[[grants]] of {grant.principal} names the method {wanted!r}, which "
                f"{definition.cls.__name__} does not have"
            )
        elif grant.prefixes and not any(map(_tells_keys, found)):
            names = ", ".join(_named(found))
            yield (
                f"[[grants]] of {grant.principal} has prefixes, which cover no call of {names}: the class "
                "does not say which keys it touches"
            )


def _named(methods: Iterable[Method]) -> list[str]:
    return [method.name for method in methods][:3]


def _tells_keys(method: Method) -> bool:
    return method.access.keys is not None or bool(method.access.prefixes or method.access.ranges)


def _names_somebody(principal: str) -> bool:
    """Return whether a principal, or a glob, can be the name of anybody."""
    if fnmatchcase(ANONYMOUS, principal) or fnmatchcase(LOCAL_OPERATOR, principal):
        return True
    first = min((principal.find(mark) for mark in _GLOB if mark in principal), default=len(principal))
    plain, is_glob = principal[:first], first < len(principal)
    for kind in _NAMED:
        if plain.startswith(kind):
            return is_glob or is_name(plain.removeprefix(kind))
        if is_glob and kind.startswith(plain):
            return True
    return False
