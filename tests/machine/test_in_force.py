"""What is in force of a class that defines more: values, snapshots, digests as the older class has them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import ORIGIN, LogTime, Viewstamp
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.evolution import VERSION_MAX, migration, version_of
from viewstamp.machine.in_force import VersionInForce
from viewstamp.machine.interface import differences, own_interface
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_digest import digest_of_pieces
from viewstamp.machine.state_machine import StateMachine, command, compose


def plain(later: bool) -> type[Any]:
    class Item(msgspec.Struct):
        name: str
        if later:
            price: int = 1

    return Item


def as_array(later: bool) -> type[Any]:
    class Item(msgspec.Struct, array_like=True, tag="item"):
        name: str
        if later:
            price: int = 1

    return Item


def renamed(later: bool) -> type[Any]:
    class Item(msgspec.Struct, rename="camel", omit_defaults=True):
        name: str
        long_name: str = ""
        if later:
            new_price: int = 1

    return Item


def frozen(later: bool) -> type[Any]:
    class Item(msgspec.Struct, frozen=True):
        name: str
        if later:
            price: int = 1

    return Item


def as_dataclass(later: bool) -> type[Any]:
    if later:

        @dataclass
        class Item:
            name: str
            price: int = 1

        return Item

    @dataclass
    class Item:  # type: ignore[no-redef]
        name: str

    return Item


def as_tuple(later: bool) -> type[Any]:
    if later:

        class Item(NamedTuple):
            name: str
            price: int = 1

        return Item

    class Item(NamedTuple):  # type: ignore[no-redef]
        name: str

    return Item


KINDS = [plain, as_array, renamed, frozen, as_dataclass, as_tuple]


def shop_of(item: Any) -> type[StateMachine]:
    class Shop(StateMachine):
        kept: dict[str, list[Any]] = {}  # noqa: RUF012  its type is set below

        def keep(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            self.kept.setdefault(name, []).append(item(name))
            return {name: self.kept[name]}

        keep.__annotations__["return"] = dict[str, list[item]]
        keep = command(keep)  # type: ignore[assignment]

    Shop.__annotations__["kept"] = dict[str, list[item]]
    return Shop


def ran(cls: type[StateMachine], in_force: VersionInForce | None = None) -> MachineRunner:
    runner = MachineRunner(MachineDefinition.of(cls), in_force=in_force)
    runner.begin_entry(ORIGIN, LogTime(1))
    for name in ("tea", "jam", "tea"):
        arguments = runner.definition.decode("command", msgspec.msgpack.encode(["keep", name]))
        kind, payload = runner.run(arguments)
        assert kind == 0
        if in_force is None:
            runner.projected = payload
    runner.end_entry()
    return runner


@pytest.mark.parametrize("kind", KINDS)
def test_results_snapshots_and_digests_are_those_of_the_older_class(
    kind: Callable[[bool], type[Any]],
) -> None:
    older, newer = shop_of(kind(False)), shop_of(kind(True))
    in_force = VersionInForce(MachineDefinition.of(newer), 1, own_interface(older))
    assert in_force.needs() == ""
    assert not in_force.is_whole
    old, new = ran(older), ran(newer, in_force)
    assert new.projected == old.projected
    assert b"".join(new.pieces()) == b"".join(old.pieces())
    digests = {digest_of_pieces(runner.in_force.digest_pieces(runner.machine)) for runner in (old, new)}
    assert len(digests) == 1
    assert old.restored(b"".join(new.pieces())).machine is not None
    back = new.restored(b"".join(old.pieces()), in_force)
    assert b"".join(back.pieces()) == b"".join(old.pieces())


def paints(later: bool) -> type[StateMachine]:
    members = {"RED": "red", "BLUE": "blue"} if later else {"RED": "red"}
    make: Any = Enum
    colour = make("Colour", members)
    fields: list[Any] = [("name", str), ("colour", colour, colour.RED)]
    if later:
        fields.append(("price", int, 1))
    order: Any = msgspec.defstruct("Order", fields)

    class Paints(StateMachine):
        sold: int = 0

        def take(self, order) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
            self.sold += len(order.name)
            return self.sold

        take.__annotations__["order"] = order
        take = command(take)  # type: ignore[assignment]

    return Paints


@pytest.mark.parametrize(
    ("order", "allowed"),
    [
        ({"name": "tea"}, True),
        ({"name": "tea", "colour": "red", "price": 1}, True),
        ({"name": "tea", "price": 2}, False),
        ({"name": "tea", "colour": "blue"}, False),
    ],
)
def test_an_argument_is_refused_when_it_holds_what_members_of_before_cannot_read(
    order: dict[str, Any], allowed: bool
) -> None:
    older, newer = paints(later=False), paints(later=True)
    definition = MachineDefinition.of(newer)
    in_force = VersionInForce(definition, 1, own_interface(older))
    payload = msgspec.msgpack.encode(["take", order])
    assert in_force.allows is not None
    reason = in_force.allows(definition.decode("command", payload), payload)
    assert (reason == "") == allowed
    assert allowed or "take: an argument holds what is new and not in force" in reason


def typed(later: bool) -> type[StateMachine]:
    fields = {"name": str} | ({"price": int} if later else {})
    make: Any = TypedDict
    item: Any = make("Item", fields)

    class Shop(StateMachine):
        items: list[Any] = []  # noqa: RUF012  its type is set below

        @command
        def go(self) -> None: ...

    Shop.__annotations__["items"] = list[item]
    return Shop


def test_a_typed_dict_does_not_grow() -> None:
    (why,) = differences(own_interface(typed(later=True)), own_interface(typed(later=False)))
    assert why == "struct Item[price] is new and has no default"


class Purse(StateMachine):
    coins: int = 0

    @command
    def put(self, coins: int) -> int:
        self.coins += coins
        return self.coins


def purse_of_two() -> type[StateMachine]:
    class Purse(StateMachine):
        version = 2
        coins: int = 0
        notes: int = 0

        @migration(to=2)
        def _change(self) -> None:
            self.notes, self.coins = divmod(self.coins, 10)

        @command
        def put(self, coins: int) -> int:
            self.coins += coins
            return self.coins + 10 * self.notes

    return Purse


def test_a_composed_class_has_the_highest_version_and_may_get_a_part() -> None:
    older = compose(purse=Purse)
    newer = compose(purse=purse_of_two(), other=Purse)
    assert (version_of(older), version_of(newer)) == (1, 2)
    definition = MachineDefinition.of(newer)
    in_force = VersionInForce(definition, 1, own_interface(older))
    assert in_force.needs() == ""
    old = MachineRunner(MachineDefinition.of(older))
    old.begin_entry(ORIGIN, LogTime(1))
    old.run(old.definition.decode("command", msgspec.msgpack.encode(["purse.put", 25])))
    old.end_entry()
    taken = b"".join(old.pieces())
    new = MachineRunner(definition, in_force=in_force).restored(taken, in_force)
    assert b"".join(new.pieces()) == taken
    raised = new.raised(VersionInForce.newest(definition), ORIGIN, LogTime(2))
    parts: dict[str, Any] = vars(raised.machine)["machines"]
    assert (parts["purse"].notes, parts["purse"].coins, parts["other"].coins) == (2, 5, 0)


def test_what_a_class_lacks_is_named() -> None:
    missing = [*differences(own_interface(Purse), own_interface(shop_of(plain(False))))]
    assert "kept (dict[str, list[struct Item]]) is missing" in missing
    assert "keep() (command -> dict[str, list[struct Item]]) is missing" in missing


def test_a_class_is_refused_when_its_versions_contradict_each_other() -> None:
    class Late(StateMachine):
        @command(since=2)
        def later(self) -> None: ...

    class Stated(StateMachine):
        version: int = 2  # type: ignore[misc]

        @command
        def go(self) -> None: ...

    class Nothing(StateMachine):
        version = 0

        @command
        def go(self) -> None: ...

    class Dated(StateMachine):
        version = 20_261_130

        @command
        def go(self) -> None: ...

    class Beyond(StateMachine):
        @migration(to=2)
        def _go(self) -> None: ...

        @command
        def go(self) -> None: ...

    class Gone(StateMachine):
        version = 2

        @migration(to=2, removes=["old"])
        def _go(self) -> None: ...

        @command
        def go(self) -> None: ...

    whys = {
        Late: "exists since version 2: write version = 2",
        Stated: "write version = 2 without a type",
        Nothing: "Nothing.version is 0: it must be an integer from 1 to 65535; count by one",
        Dated: "Dated.version is 20261130: it must be an integer from 1 to 65535",
        Beyond: "no migration to 2 here",
        Gone: "removes 'old', which the class does not declare",
    }
    for cls, why in whys.items():
        with pytest.raises(ConfigurationError, match=why):
            MachineDefinition.of(cls)


def test_a_raise_begins_one_entry_for_each_migration_whatever_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Late(StateMachine):
        version = VERSION_MAX
        steps: list[int] = []  # noqa: RUF012  copied for each instance

        @migration(to=40_000)
        def _second(self) -> None:
            self.steps.append(self.context.version)

        @migration(to=7)
        def _first(self) -> None:
            self.steps.append(self.context.version)

        @command
        def go(self) -> None: ...

    begun: list[int] = []
    begin_entry = MachineRunner.begin_entry

    def counted(runner: MachineRunner, viewstamp: Viewstamp, now: LogTime) -> None:
        begun.append(now)
        begin_entry(runner, viewstamp, now)

    monkeypatch.setattr(MachineRunner, "begin_entry", counted)
    for cls, in_force, steps in [(Late, 1, [7, 40_000]), (Late, 7, [40_000]), (compose(late=Late), 1, None)]:
        definition = MachineDefinition.of(cls)
        runner = MachineRunner(definition, in_force=VersionInForce(definition, in_force, None))
        raised = runner.raised(VersionInForce.newest(definition), ORIGIN, LogTime(2))
        machine: Any = raised.machine if steps else vars(raised.machine)["machines"]["late"]
        assert machine.steps == (steps or [7, 40_000])
        assert raised.context.version == VERSION_MAX
    assert len(begun) == 5


def colours(later: bool) -> type[StateMachine]:
    make: Any = Enum
    colour = make("Colour", {"RED": "red", "BLUE": "blue"} if later else {"RED": "red"})

    class Colours(StateMachine):
        chosen: list[Any] = []  # noqa: RUF012  its type is set below

        if later:

            def take(self, name, one=colour("blue")) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001, B008
                self.chosen.append(one)
                return len(name)

            take.__annotations__["one"] = colour
        else:

            def take(self, name) -> int:  # type: ignore[no-untyped-def, misc]  # noqa: ANN001
                return len(name)

        take.__annotations__["name"] = str
        take = command(take)  # type: ignore[assignment]

    Colours.__annotations__["chosen"] = list[colour]  # type: ignore[valid-type]
    return Colours


def test_a_new_argument_that_is_not_sent_refuses_no_call_when_its_default_is_a_new_member() -> None:
    definition = MachineDefinition.of(colours(later=True))
    in_force = VersionInForce(definition, 1, own_interface(colours(later=False)))
    assert in_force.allows is not None
    for arguments, reason in [(["tea"], ""), (["tea", "blue"], "take: 'one' is new and not in force")]:
        payload = msgspec.msgpack.encode(["take", *arguments])
        said = in_force.allows(definition.decode("command", payload), payload)
        assert said.startswith(reason)
        assert bool(said) == bool(reason)
