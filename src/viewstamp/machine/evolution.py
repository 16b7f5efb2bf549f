"""How a user's class changes: its version, and migrations from one version to the next.

A class says `version = 3`, marks commands that only exist from a version on (`@command(since=3)`), and says
with `@migration(to=3)` how the state of version 2 becomes one of version 3. Which version is in force stands
in the log. It is raised by one entry, and there the migrations run, once, on every replica.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import msgspec

from viewstamp.core.errors import ConfigurationError

_MARK: Final = "__viewstamp_migration__"
VERSION_MAX: Final = 65_535
"""Versions are counted. A date, or what else is large by mistake, is refused before it is in force."""
F = TypeVar("F", bound=Callable[[Any], None])


class Removed:
    """What an attribute holds that a migration has removed: a command that uses it fails on every replica."""

    __slots__ = ()


REMOVED: Final = Removed()


class Migration(msgspec.Struct, frozen=True):
    """A method that makes a state of version `to` of one of the version before."""

    to: int
    name: str
    removes: tuple[str, ...]
    """Attributes that are state below version `to` only."""


def migration(*, to: int, removes: Collection[str] = ()) -> Callable[[F], F]:
    """Let this method run once, on every replica, at the entry that raises the version to `to`.

    It may depend on nothing but the state and `self.context`, as a command. Where it raises, the state stays
    as it was and the version is not raised, on every replica alike.

    `removes` names attributes that are state of the versions before only. The class declares them as long as
    such a version stands in a log or a snapshot (`viewstamp upgrade check`). After the migration they are not
    saved, and hold nothing that a command could use.
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, (to, tuple(removes)))
        return function

    return mark


def version_of(cls: type[Any]) -> int:
    """Return the version that this class's code can do: of a composed class the highest of its parts."""
    parts: Mapping[str, type[Any]] = cls.parts
    return max(map(version_of, parts.values())) if parts else int(cls.version)


def migrations_of(cls: type[Any]) -> list[Migration]:
    """Return the migrations of a class that is not composed, in ascending order."""
    found = []
    for name in dir(cls):
        marked = getattr(getattr(cls, name, None), _MARK, None)
        if marked is not None:
            found.append(Migration(marked[0], name, marked[1]))
    return sorted(found, key=lambda migration: (migration.to, migration.name))


def migrating_versions(cls: type[Any], before: int, target: int) -> list[int]:
    """Return the versions above `before`, up to `target`, to which the class or a part of it migrates."""
    parts: Mapping[str, type[Any]] = cls.parts
    if not parts:
        return [one.to for one in migrations_of(cls) if before < one.to <= target]
    return sorted({to for part in parts.values() for to in migrating_versions(part, before, target)})


_REMOVED: Final[dict[type[Any], dict[str, int]]] = {}


def removed_attributes(cls: type[Any]) -> dict[str, int]:
    """Return the attributes that migrations of this class remove: the first version without it, by name."""
    if cls not in _REMOVED:
        _REMOVED[cls] = _read_removed(cls)
    return _REMOVED[cls]


def _read_removed(cls: type[Any]) -> dict[str, int]:
    return {name: migration.to for migration in migrations_of(cls) for name in migration.removes}


def require_evolution(cls: type[Any], declared: Mapping[str, Any]) -> None:
    """Refuse versions and migrations that contradict each other.

    Raises:
        ConfigurationError: one does; the message names it.
    """
    where = cls.__qualname__
    if "version" in declared:
        raise ConfigurationError(
            f"{where}.version is the version of the class: write version = 2 without a type; "
            "call an attribute of the state something else"
        )
    version = getattr(cls, "version", None)
    if type(version) is not int or not 1 <= version <= VERSION_MAX:
        raise ConfigurationError(
            f"{where}.version is {version!r}: it must be an integer from 1 to {VERSION_MAX}; count by one"
        )
    seen: set[int] = set()
    for one in migrations_of(cls):
        if not 2 <= one.to <= version or one.to in seen:
            raise ConfigurationError(
                f"{where}.{one.name}: no migration to {one.to} here: each version from 2 to {version} has one"
            )
        seen.add(one.to)
        for name in one.removes:
            if name not in declared:
                raise ConfigurationError(
                    f"{where}.{one.name} removes {name!r}, which the class does not declare: versions below "
                    f"{one.to} have it, so keep its annotation and its default"
                )
