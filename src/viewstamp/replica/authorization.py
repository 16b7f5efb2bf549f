"""Which principal may make which call: the grants of a node, asked before a call enters the log or is read.

Rules of this file:

- as soon as there is one grant, what no grant permits is denied: methods that no grant names, keys that none
  covers, principals that none names, whatever their role;
- a call is permitted if every span of keys that it touches lies within a prefix of a grant of its principal
  that names its method (`machine.access`). A grant without prefixes covers every key, and is the only one
  that covers a call whose class does not say which keys it touches;
- commands, linearizable and stale queries are asked in the same way, by the same function, `denial`;
- a principal that no grant names has no session here either, and no place in the log;
- grants are of a node, not of the replicated state: they decide what enters, never what an entry does. The
  roles in the class are of the replicated state: they are asked here, and again where an entry is executed.
"""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Self

import msgspec
import xxhash

from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.access import EVERY_KEY, Access, Denial, shown
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.machine.runner import role_denial
from viewstamp.replica.events import Denied, ReplicaEffect

GRANTS_MAX: Final = 10_000
_PRINCIPALS_KEPT: Final = 4_096
"""Principals whose permissions are kept; more are computed again."""
_ENCODER: Final = msgspec.msgpack.Encoder()


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lets a principal call methods on keys. A table `[[grants]]` of the cluster file.

    Raises:
        ConfigurationError: a name or a glob is empty.
    """

    principal: str
    """As in `core.principals`, or a glob such as `client/shop-*`."""
    methods: tuple[str, ...]
    """Names of methods as clients call them, or globs such as `locks.*`."""
    prefixes: tuple[str, ...] = ()
    """The keys that begin with one of these; empty: every key."""

    def __post_init__(self) -> None:
        """Refuse what would permit nothing, or more than it seems to."""
        if not self.principal:
            raise ConfigurationError('a grant names a principal, such as "client/shop" or "client/*"')
        if not self.methods or not all(self.methods):
            raise ConfigurationError(f'the grant of {self.principal} names no method: write methods = ["*"]')
        if not all(self.prefixes):
            raise ConfigurationError(
                f"the grant of {self.principal} has an empty prefix: leave prefixes out for every key"
            )


def policy_digest(grants: Sequence[Grant]) -> int:
    """Return 63 bits that are equal for grants that permit the same, whatever their order; 0: none."""
    if not grants:
        return 0
    meaning = sorted((g.principal, sorted(set(g.methods)), sorted(set(g.prefixes))) for g in grants)
    return xxhash.xxh3_64_intdigest(_ENCODER.encode(meaning)) >> 1 or 1


def changes_of(
    before: Sequence[Grant], now: Sequence[Grant], definition: MachineDefinition
) -> Callable[[str], bool]:
    """Return what says whether a principal may do something else by the second grants than by the first."""
    first, second = Authorizer(definition, before), Authorizer(definition, now)
    return lambda principal: first.permitted(principal) != second.permitted(principal)


_Prefixes = tuple[str, ...]
"""Of all grants for one principal and method; empty: every key."""


class _Permissions:
    """What one principal may do, as far as it can be said without a call."""

    __slots__ = ("methods", "quick")

    def __init__(self) -> None:
        self.methods: dict[str, _Prefixes] = {}
        """By method. One that is missing is denied."""
        self.quick: dict[type[Any], tuple[str, _Prefixes]] = {}
        """By the type of arguments, for most methods: (argument that is the only key, its prefixes).

        A call is permitted where this text begins with one of them, and always where there is no prefix.
        Otherwise it is looked at closely.
        """


class Authorizer:
    """Answers for each call whether its principal may make it, and keeps account of those that are denied."""

    __slots__ = ("_by_principal", "_decides", "_denied", "_grants", "_has_roles", "_methods")

    def __init__(self, definition: MachineDefinition, grants: Sequence[Grant]) -> None:
        self._has_roles = any(method.access.roles for method in definition.methods.values())
        self._grants = tuple(grants)
        self._decides = bool(self._grants) or self._has_roles
        """Whether there is a grant or a role: without any every call is permitted."""
        self._methods: dict[type[Any], Method] = {
            method.arguments: method for method in definition.methods.values()
        }
        self._by_principal: dict[str, _Permissions] = {}
        """By principal, as far as it was asked for."""
        self._denied: list[Denial] = []
        """Since `report` was last called."""

    def permit(self, grants: Sequence[Grant]) -> None:
        """Decide by these grants from now on."""
        self._grants = tuple(grants)
        self._decides = bool(self._grants) or self._has_roles
        self._by_principal.clear()

    @classmethod
    def of(cls, definition: MachineDefinition, grants: Sequence[Grant]) -> Self | None:
        """Return what decides; None: there is neither a grant nor a role, and every call is permitted."""
        has_roles = any(method.access.roles for method in definition.methods.values())
        return cls(definition, grants) if grants or has_roles else None

    def denial(self, principal: str, arguments: Any) -> Denial | None:
        """Return why this call may not be made; None: it may. `arguments` is the decoded call."""
        denial = self._judge(principal, arguments)
        if denial is not None:
            self._denied.append(denial)
        return denial

    def permitted(self, principal: str) -> dict[str, frozenset[str]] | None:
        """Return the prefixes, by method, that grants let a principal call; None: there is no grant."""
        if not self._grants:
            return None
        return {name: frozenset(found) for name, found in self._permissions(principal).methods.items()}

    def session_denial(self, principal: str) -> Denial | None:
        """Return why this principal may have no session here; None: it may."""
        if not self._grants or self._permissions(principal).methods:
            return None
        denial = Denial(principal, "", "grant")
        self._denied.append(denial)
        return denial

    def permits_all(self, principal: str, calls: Iterable[tuple[int, Any]]) -> bool:
        """Return whether all these decoded calls may be made, and keep no account of those that may not.

        Most calls have one key, and are not looked at closely: it is done for each message.
        """
        if not self._decides:
            return True
        quick = self._permissions(principal).quick
        for _, arguments in calls:
            found = quick.get(type(arguments))
            if found is not None:
                name, prefixes = found
                if not prefixes:
                    continue
                key = getattr(arguments, name)
                if type(key) is str and key.startswith(prefixes):
                    continue
            if self._judge(principal, arguments) is not None:
                return False
        return True

    def report(self, effects: list[ReplicaEffect]) -> None:
        """Add the account of what was denied since this was last called; nothing where nothing was."""
        if self._denied:
            effects.append(Denied(len(self._denied), self._denied[-1].text))
            self._denied.clear()

    def _judge(self, principal: str, arguments: Any) -> Denial | None:
        method = self._methods[type(arguments)]
        denial = role_denial(method, principal)
        if denial is None and self._grants:
            denial = self._grant_denial(principal, method, arguments)
        return denial

    def _grant_denial(self, principal: str, method: Method, arguments: Any) -> Denial | None:
        permissions = self._permissions(principal).methods
        if not permissions:
            return Denial(principal, method.name, "grant")
        prefixes = permissions.get(method.name)
        if prefixes is None:
            return Denial(principal, method.name, "method")
        if not prefixes:
            return None
        for span in method.access.spans(arguments):
            if not any(span.within(prefix) for prefix in prefixes):
                key = None if span == EVERY_KEY else shown(span.start)
                return Denial(principal, method.name, "key", key)
        return None

    def _permissions(self, principal: str) -> _Permissions:
        known = self._by_principal.get(principal)
        if known is None:
            if len(self._by_principal) >= _PRINCIPALS_KEPT:
                self._by_principal.clear()
            known = self._by_principal[principal] = self._compute(principal)
        return known

    def _compute(self, principal: str) -> _Permissions:
        found = _Permissions()
        found.methods = permissions = self._granted(principal)
        for arguments, method in self._methods.items():
            prefixes = permissions.get(method.name) if self._grants else ()
            if prefixes is not None and role_denial(method, principal) is None:
                name = _only_key(method.access)
                if name or not prefixes:
                    found.quick[arguments] = name, prefixes
        return found

    def _granted(self, principal: str) -> dict[str, _Prefixes]:
        permissions: dict[str, _Prefixes] = {}
        for grant in self._grants:
            if not fnmatchcase(principal, grant.principal):
                continue
            for method in self._methods.values():
                if any(fnmatchcase(method.name, wanted) for wanted in grant.methods):
                    before = permissions.get(method.name)
                    # Of two grants for one method the wider one decides: one without prefixes is the widest.
                    every = before == () or not grant.prefixes
                    permissions[method.name] = () if every else (before or ()) + grant.prefixes
        return permissions


def _only_key(access: Access) -> str:
    """Return the argument that is all which the method touches; empty: there is more to look at."""
    keys = access.keys
    alone = keys is not None and len(keys) == 1 and not access.prefixes and not access.ranges
    return keys[0] if keys and alone and "." not in keys[0] else ""
