"""Replicated containers for embedding: a dict, a list, a set, a counter, a queue, a deque, typed in one line.

    class Scores(ReplicatedDict[str, int]):
        "Points by player."

    async with viewstamp.connect(where, Scores) as scores:
        await scores.set("ann", 3)

They are ordinary state machines: derive from one to add commands of your own. What a call does is done once,
however often it is sent; what it returns is what the container held at that moment.
"""

import types
import typing
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar, Final, Generic, TypeVar

from viewstamp.machine.state_machine import Command, Operation, Query, StateMachine, command, query

K = TypeVar("K")
V = TypeVar("V")

PAGE_MAX: Final = 10_000
"""Items that one answer holds at most."""


class Container(StateMachine):
    """What the containers share: a subclass with concrete types has methods with these types."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Write the types of `class Scores(ReplicatedDict[str, int])` into its methods and its state."""
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            generic, arguments = typing.get_origin(base), typing.get_args(base)
            if generic is None or generic is Generic or not issubclass(generic, Container):
                continue
            _make_concrete(cls, generic, dict(zip(generic.__parameters__, arguments, strict=True)))


def _make_concrete(cls: type[Container], generic: type[Any], concrete: Mapping[Any, Any]) -> None:
    own = vars(cls)
    state = {name: _filled(hint, concrete) for name, hint in generic.__annotations__.items()}
    cls.__annotations__ = {**state, **own.get("__annotations__", {})}
    for name, method in vars(generic).items():
        if isinstance(method, Operation) and name not in own:
            setattr(cls, name, _with_types(method, concrete))


def _with_types(method: Operation[Any, Any], concrete: Mapping[Any, Any]) -> Operation[Any, Any]:
    old = typing.cast("types.FunctionType", method.function)
    new = types.FunctionType(old.__code__, old.__globals__, old.__name__, old.__defaults__, old.__closure__)
    new.__kwdefaults__, new.__doc__ = old.__kwdefaults__, old.__doc__
    new.__qualname__, new.__module__ = old.__qualname__, old.__module__
    new.__annotations__ = {name: _filled(hint, concrete) for name, hint in old.__annotations__.items()}
    if isinstance(method, Command):
        return Command(new, method.access, since=method.since)
    return Query(new, method.access)


def _filled(hint: Any, concrete: Mapping[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return concrete[hint]
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(concrete[one] for one in parameters)] if parameters else hint


class ReplicatedDict(Container, Generic[K, V]):
    """A dict."""

    entries: dict[K, V] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command(keys=("key",))
    def set(self, key: K, value: V) -> None:
        """Set a key."""
        self.entries[key] = value

    @command(keys=("key",))
    def set_default(self, key: K, value: V) -> V:
        """Set a key if it is not there, and return what it holds."""
        return self.entries.setdefault(key, value)

    @command(keys=("key",))
    def replace(self, key: K, expected: V | None, value: V) -> bool:
        """Set a key if it holds what is expected (None: if it is not there); return whether it was set."""
        if self.entries.get(key) != expected:
            return False
        self.entries[key] = value
        return True

    @command(keys=("items",))
    def update(self, items: dict[K, V]) -> None:
        """Set several keys."""
        self.entries.update(items)

    @command(keys=("key",), frees=True)
    def pop(self, key: K) -> V | None:
        """Remove a key and return what it held; None where it was not there."""
        return self.entries.pop(key, None)

    @command(frees=True)
    def clear(self) -> None:
        """Remove all."""
        self.entries.clear()

    @query(keys=("key",))
    def get(self, key: K) -> V | None:
        """Return what a key holds; None where it is not there."""
        return self.entries.get(key)

    @query(keys=("key",))
    def contains(self, key: K) -> bool:
        """Return whether a key is there."""
        return key in self.entries

    @query
    def items(self, start: int = 0, limit: int = 1_000) -> list[tuple[K, V]]:
        """Return up to `limit` (10,000 at most) of the items, in the order in which keys were added."""
        return list(islice(self.entries.items(), max(0, start), max(0, start) + _page(limit)))

    @query(keys=())
    def size(self) -> int:
        """Return how many keys there are."""
        return len(self.entries)


class ReplicatedList(Container, Generic[V]):
    """A list."""

    raises: ClassVar[tuple[type[Exception], ...]] = (IndexError, ValueError)
    """What clients get as these very exceptions. Nothing was changed then."""
    values: list[V] = []  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def append(self, value: V) -> int:
        """Add a value at the end, and return its place."""
        self.values.append(value)
        return len(self.values) - 1

    @command
    def extend(self, values: list[V]) -> None:
        """Add values at the end."""
        self.values.extend(values)

    @command
    def insert(self, index: int, value: V) -> None:
        """Add a value before the one at this place, as `list.insert` does."""
        self.values.insert(index, value)

    @command
    def set(self, index: int, value: V) -> None:
        """Set the value at a place; `IndexError` where there is none."""
        self.values[index] = value

    @command(frees=True)
    def pop(self, index: int = -1) -> V:
        """Remove the value at a place and return it; `IndexError` where there is none."""
        return self.values.pop(index)

    @command(frees=True)
    def remove(self, value: V) -> None:
        """Remove the first such value; `ValueError` where there is none."""
        self.values.remove(value)

    @command(frees=True)
    def clear(self) -> None:
        """Remove all."""
        self.values.clear()

    @query
    def get(self, index: int) -> V:
        """Return the value at a place; `IndexError` where there is none."""
        return self.values[index]

    @query
    def slice(self, start: int = 0, limit: int = 1_000) -> list[V]:
        """Return up to `limit` (10,000 at most) values from this place on."""
        return self.values[max(0, start) : max(0, start) + _page(limit)]

    @query(keys=())
    def size(self) -> int:
        """Return how many values there are."""
        return len(self.values)


class ReplicatedSet(Container, Generic[V]):
    """A set, which remembers the order in which its values were added."""

    members: dict[V, None] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command(keys=("value",))
    def add(self, value: V) -> bool:
        """Add a value; return whether it is new."""
        is_new = value not in self.members
        self.members[value] = None
        return is_new

    @command(keys=("value",), frees=True)
    def discard(self, value: V) -> bool:
        """Remove a value; return whether it was there."""
        was_there = value in self.members
        self.members.pop(value, None)
        return was_there

    @command(keys=("values",))
    def update(self, values: list[V]) -> int:
        """Add values; return how many are new."""
        before = len(self.members)
        self.members.update(dict.fromkeys(values))
        return len(self.members) - before

    @command(frees=True)
    def clear(self) -> None:
        """Remove all."""
        self.members.clear()

    @query(keys=("value",))
    def contains(self, value: V) -> bool:
        """Return whether a value is there."""
        return value in self.members

    @query
    def values(self, start: int = 0, limit: int = 1_000) -> list[V]:
        """Return up to `limit` (10,000 at most) of the values, in the order in which they were added."""
        return list(islice(self.members, max(0, start), max(0, start) + _page(limit)))

    @query(keys=())
    def size(self) -> int:
        """Return how many values there are."""
        return len(self.members)


class ReplicatedCounter(Container):
    """A whole number."""

    value: int = 0

    @command
    def add(self, amount: int = 1) -> int:
        """Add, and return the new value."""
        self.value += amount
        return self.value

    @command
    def set(self, value: int) -> None:
        """Set it."""
        self.value = value

    @query
    def get(self) -> int:
        """Return it."""
        return self.value


class ReplicatedDeque(Container, Generic[V]):
    """A list that grows and shrinks at both ends; with `most` in the class it holds no more than that."""

    most: ClassVar[int] = 1_000_000
    values: dict[int, V] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    """By place: both ends are found at once, and taking one moves nothing."""
    first: int = 0
    """The place of the first value."""

    @command
    def append(self, value: V) -> bool:
        """Add a value at the end; return False, and add nothing, where it is full."""
        if len(self.values) >= self.most:
            return False
        self.values[self.first + len(self.values)] = value
        return True

    @command
    def append_left(self, value: V) -> bool:
        """Add a value at the beginning; return False, and add nothing, where it is full."""
        if len(self.values) >= self.most:
            return False
        self.first -= 1
        self.values[self.first] = value
        return True

    @command(frees=True)
    def pop(self) -> V | None:
        """Remove the last value and return it; None where it is empty."""
        return self.values.pop(self.first + len(self.values) - 1, None)

    @command(frees=True)
    def pop_left(self) -> V | None:
        """Remove the first value and return it; None where it is empty."""
        if not self.values:
            return None
        self.first += 1
        return self.values.pop(self.first - 1)

    @command(frees=True)
    def clear(self) -> None:
        """Remove all."""
        self.values.clear()

    @query
    def slice(self, start: int = 0, limit: int = 1_000) -> list[V]:
        """Return up to `limit` (10,000 at most) values from this place on; the first has place 0."""
        places = range(max(0, start), min(len(self.values), max(0, start) + _page(limit)))
        return [self.values[self.first + place] for place in places]

    @query(keys=())
    def size(self) -> int:
        """Return how many values there are."""
        return len(self.values)


class ReplicatedQueue(Container, Generic[V]):
    """First in, first out; with `most` in the class it holds no more than that.

    An item that is taken is gone, also where its taker dies: for work that must be done use the recipe
    `queues`, whose items come back.
    """

    most: ClassVar[int] = 1_000_000
    values: dict[int, V] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    last: int = 0
    """The place of the value that was put last."""

    @command
    def put(self, value: V) -> bool:
        """Add a value; return False, and add nothing, where it is full."""
        if len(self.values) >= self.most:
            return False
        self.last += 1
        self.values[self.last] = value
        return True

    @command(frees=True)
    def take(self) -> V | None:
        """Remove the oldest value and return it; None where it is empty."""
        return self.values.pop(self.last - len(self.values) + 1, None)

    @query
    def peek(self) -> V | None:
        """Return the oldest value; None where it is empty."""
        return self.values.get(self.last - len(self.values) + 1)

    @query(keys=())
    def size(self) -> int:
        """Return how many values there are."""
        return len(self.values)


def _page(limit: int) -> int:
    return max(0, min(limit, PAGE_MAX))
