"""Changes of a class that would split the replicas or lose state, and what names each."""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from viewstamp.machine.evolution import migration
from viewstamp.machine.state_machine import StateMachine, command, query


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    name: str
    colour: Colour = Colour.RED
    price: int = 1


class Shop(StateMachine):
    """What runs."""

    stock: dict[str, int] = {}  # noqa: RUF012  copied for each instance
    items: list[Item] = []  # noqa: RUF012
    limit: int = 10

    @command
    def add(self, name: str, count: int = 1) -> int:
        self.stock[name] = self.stock.get(name, 0) + count
        return self.stock[name]

    @command
    def keep(self, name: str) -> Item:
        self.items.append(Item(name))
        return self.items[-1]

    @command
    def clear(self) -> None:
        self.stock.clear()

    @query
    def size(self) -> int:
        return len(self.stock)


def changed(*drop: str, **hints: Any) -> Callable[[type], type[StateMachine]]:
    """Make, of the members that change, the class that runs with these changes."""

    def make(cls: type) -> type[StateMachine]:
        members = {name: value for name, value in vars(Shop).items() if not name.startswith("_")}
        members |= {name: value for name, value in vars(cls).items() if not name.startswith("__")}
        annotations = Shop.__annotations__ | vars(cls).get("__annotations__", {}) | hints
        for name in drop:
            members.pop(name)
            annotations.pop(name, None)
        return type(
            "Shop", (StateMachine,), members | {"__annotations__": annotations, "__module__": __name__}
        )

    return make


def with_items(item: Any) -> type[StateMachine]:
    """Return the class with another struct in place of `Item`."""

    class Changes:
        def keep(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            self.items.append(item(name))  # type: ignore[attr-defined]
            return self.items[-1]  # type: ignore[attr-defined]

    Changes.keep.__annotations__["return"] = item
    Changes.keep = command(Changes.keep)  # type: ignore[method-assign, assignment]
    return changed(items=list[item])(Changes)


def struct(fields: Iterable[Any]) -> Any:
    """Return another `Item`."""
    return msgspec.defstruct("Item", fields)


@changed("limit")
class AttributeRemoved: ...


@changed("stock")
class AttributeRenamed:
    shelves: dict[str, int] = {}  # noqa: RUF012

    @command
    def add(self, name: str, count: int = 1) -> int:
        self.shelves[name] = self.shelves.get(name, 0) + count
        return self.shelves[name]

    @command
    def clear(self) -> None:
        self.shelves.clear()

    @query
    def size(self) -> int:
        return len(self.shelves)


@changed(stock=dict[str, float])
class AttributeOfAnotherType: ...


@changed()
class DefaultChanged:
    limit: int = 20


@changed("clear")
class CommandRemoved: ...


@changed()
class CommandBecomesQuery:
    @query
    def clear(self) -> None:
        return None


@changed()
class ArgumentRemoved:
    @command
    def add(self, name: str) -> int:
        self.stock[name] = self.stock.get(name, 0) + 1  # type: ignore[attr-defined]
        return self.stock[name]  # type: ignore[attr-defined, no-any-return]


@changed()
class ArgumentOfAnotherType:
    @command
    def add(self, name: str, count: float = 1) -> int:
        self.stock[name] = self.stock.get(name, 0) + int(count)  # type: ignore[attr-defined]
        return self.stock[name]  # type: ignore[attr-defined, no-any-return]


@changed()
class ArgumentWithAnotherDefault:
    @command
    def add(self, name: str, count: int = 2) -> int:
        self.stock[name] = self.stock.get(name, 0) + count  # type: ignore[attr-defined]
        return self.stock[name]  # type: ignore[attr-defined, no-any-return]


@changed()
class ArgumentsInAnotherOrder:
    @command
    def add(self, count: int, name: str = "tea") -> int:
        self.stock[name] = self.stock.get(name, 0) + count  # type: ignore[attr-defined]
        return self.stock[name]  # type: ignore[attr-defined, no-any-return]


@changed()
class NewArgumentWithoutDefault:
    @command
    def keep(self, name: str, reason: str) -> Item:
        self.items.append(Item(f"{name}{reason}"))  # type: ignore[attr-defined]
        return self.items[-1]  # type: ignore[attr-defined, no-any-return]


@changed()
class ResultOfAnotherType:
    @command
    def add(self, name: str, count: int = 1) -> str:
        self.stock[name] = self.stock.get(name, 0) + count  # type: ignore[attr-defined]
        return str(self.stock[name])  # type: ignore[attr-defined]


@changed()
class CallersRestricted:
    @command(roles=("operator",))
    def clear(self) -> None:
        self.stock.clear()  # type: ignore[attr-defined]


@changed()
class SavesItself:
    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.stock)

    def restore(self, snapshot: bytes) -> None:
        self.stock: Any = msgspec.msgpack.decode(snapshot)


@changed()
class OtherBehaviour:
    @command
    def add(self, name: str, count: int = 1) -> int:
        self.stock[name] = self.stock.get(name, 0) + 2 * count  # type: ignore[attr-defined]
        return self.stock[name]  # type: ignore[attr-defined, no-any-return]


@changed()
class OtherBehaviourWhateverIsInForce:
    version = 2

    @command
    def clear(self) -> None:
        self.stock = dict[str, int]()


@changed()
class MigrationRaises:
    version = 2

    @migration(to=2)
    def _refuse(self) -> None:
        raise ValueError("there is no way")


@changed()
class MigrationLosesItsState:
    version = 2

    @migration(to=2)
    def _spoil(self) -> None:
        self.limit = "ten"


@changed()
class MigrationMakesTwoOne:
    version = 2
    shelves: dict[str, int] = {}  # noqa: RUF012

    @migration(to=2)
    def _share(self) -> None:
        self.shelves = self.stock  # type: ignore[attr-defined]


@changed()
class MigrationKeepsOneTwice:
    version = 2
    pairs: list[tuple[Item, ...]] = []  # noqa: RUF012

    @migration(to=2)
    def _pair(self) -> None:
        self.pairs = [(item, item) for item in self.items]  # type: ignore[attr-defined]


class Change(NamedTuple):
    """A changed class, and the words by which it is refused."""

    cls: Any
    names: str
    at_the_entry: bool = True
    """Whether a node with this class waits, instead of going on until it differs."""


_NAME, _COLOUR, _PRICE = ("name", str), ("colour", Colour, Colour.RED), ("price", int, 1)
_MEMBER_REMOVED: Any = Enum("Colour", {"RED": "red"})  # type: ignore[misc]
_VALUE_CHANGED: Any = Enum("Colour", {"RED": "crimson", "BLUE": "blue"})  # type: ignore[misc]

CHANGES = {
    "attribute removed": Change(AttributeRemoved, "limit (int) is missing"),
    "attribute renamed": Change(AttributeRenamed, "stock (dict[str, int]) is missing"),
    "attribute of another type": Change(
        AttributeOfAnotherType, "stock was dict[str, int] and is dict[str, float]"
    ),
    "default changed": Change(DefaultChanged, "limit = was"),
    "field removed": Change(with_items(struct([_NAME, _COLOUR])), "struct Item[price] (int = 1) is missing"),
    "field of another type": Change(
        with_items(struct([_NAME, _COLOUR, ("price", float, 1)])),
        "struct Item[price] was int = 1 and is float = 1",
    ),
    "field with another default": Change(
        with_items(struct([_NAME, _COLOUR, ("price", int, 2)])),
        "struct Item[price] was int = 1 and is int = 2",
    ),
    "field without a default": Change(
        with_items(msgspec.defstruct("Item", [_NAME, _COLOUR, _PRICE, ("size", int)], kw_only=True)),
        "struct Item[size] is new and has no default",
    ),
    "member of an enum removed": Change(
        with_items(struct([_NAME, ("colour", _MEMBER_REMOVED, _MEMBER_REMOVED["RED"]), _PRICE])),
        "enum Colour[BLUE] ('blue') is missing",
    ),
    "member of an enum changed": Change(
        with_items(struct([_NAME, ("colour", _VALUE_CHANGED, _VALUE_CHANGED["RED"]), _PRICE])),
        "enum Colour[RED] was 'red' and is 'crimson'",
    ),
    "command removed": Change(CommandRemoved, "clear() (command -> none) is missing"),
    "command becomes a query": Change(CommandBecomesQuery, "clear() (command -> none) is missing"),
    "argument removed": Change(ArgumentRemoved, "add(1 count) (int = 1) is missing"),
    "argument of another type": Change(ArgumentOfAnotherType, "add(1 count) was int = 1 and is float = 1"),
    "argument with another default": Change(
        ArgumentWithAnotherDefault, "add(1 count) was int = 1 and is int = 2"
    ),
    "arguments in another order": Change(ArgumentsInAnotherOrder, "add(0 name) (str (required)) is missing"),
    "new argument without a default": Change(
        NewArgumentWithoutDefault, "keep(1 reason) is new and has no default"
    ),
    "result of another type": Change(ResultOfAnotherType, "add() was command -> int and is command -> str"),
    "callers restricted": Change(CallersRestricted, "clear() was command -> none and is command -> none for"),
    "saves itself": Change(SavesItself, "items (list[struct Item]) is missing"),
    "other behaviour": Change(
        OtherBehaviour, "add() does something else than before, and version is 1", at_the_entry=False
    ),
    "other behaviour whatever is in force": Change(
        OtherBehaviourWhateverIsInForce,
        "clear() does something else than before whatever version is in force",
        at_the_entry=False,
    ),
    "migration raises": Change(
        MigrationRaises, "Shop._refuse: ValueError: there is no way", at_the_entry=False
    ),
    "migration loses its state": Change(
        MigrationLosesItsState, "the migrated state cannot be kept", at_the_entry=False
    ),
    "migration makes two attributes one object": Change(
        MigrationMakesTwoOne, "self.stock and self.shelves hold one dict", at_the_entry=False
    ),
    "migration keeps one object twice": Change(
        MigrationKeepsOneTwice, "self.items and self.pairs hold one Item", at_the_entry=False
    ),
}
