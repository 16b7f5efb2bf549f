"""The user's class: an ordinary object, its default snapshot, and machines made of machines."""

from collections.abc import Awaitable, Iterable
from typing import Any, assert_type

import msgspec
import pytest

from tests.replica.fakes import Counter
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.messages import RESULT
from viewstamp.machine.context import Context
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_machine import Command, Query, StateMachine, command, compose, query, running_at


class Shelf(StateMachine):
    names: list[str] = []  # noqa: RUF012  copied for each instance
    by_name: dict[str, int] = {}  # noqa: RUF012  copied for each instance
    tags: set[str] = set()  # noqa: RUF012  copied for each instance
    limit: int = 3

    @command
    def put(self, name: str, number: int = 1) -> int:
        self.names.append(name)
        self.by_name[name] = number
        return len(self.names)

    @query
    def count(self) -> int:
        return len(self.names)


def _copy(machine: Shelf) -> Shelf:
    taken = machine.snapshot()
    again = Shelf()
    again.restore(taken if isinstance(taken, bytes) else b"".join(taken))
    return again


def test_a_method_is_plain_when_called_on_an_instance() -> None:
    shelf = Shelf()
    assert_type(shelf.put("a"), int)
    assert shelf.put("b", number=7) == 2
    assert shelf.count() == 2


def test_a_call_is_typed_as_awaitable_when_made_through_a_proxy_typed_as_the_class() -> None:
    def calls(proxy: type[Shelf]) -> None:
        assert_type(proxy.put("a", 3), Awaitable[int])
        assert_type(proxy.count(), Awaitable[int])
        proxy.put(3)  # type: ignore[arg-type]
        proxy.put("a", amount=3)  # type: ignore[call-arg]
        proxy.count(1)  # type: ignore[call-arg]

    assert isinstance(Shelf.put, Command)
    assert isinstance(Shelf.count, Query)
    with pytest.raises(TypeError, match="called on a machine, or on the proxy"):
        calls(Shelf)


def test_mutable_defaults_are_not_shared_when_two_instances_are_made() -> None:
    first, second = Shelf(), Shelf()
    first.put("a")
    assert second.names == []
    assert second.by_name == {}
    assert Shelf.names == []


def test_the_order_of_a_dict_survives_when_a_snapshot_is_restored() -> None:
    shelf = Shelf()
    for name in ("z", "a", "m"):
        shelf.put(name)
    again = _copy(shelf)
    assert list(again.by_name) == ["z", "a", "m"]
    assert again.names == shelf.names
    assert again.snapshot() == shelf.snapshot()


def test_equal_sets_make_equal_snapshots_when_they_were_filled_in_another_order() -> None:
    first, second = Shelf(), Shelf()
    words = [f"word {number}" for number in range(50)]
    first.tags.update(words)
    second.tags.update(reversed(words))
    assert first.snapshot() == second.snapshot()


def test_a_snapshot_is_refused_when_it_holds_an_attribute_that_the_class_has_not() -> None:
    class Other(StateMachine):
        something: int = 3

        @command
        def change(self) -> None:
            self.something += 1

    taken = Other().snapshot()
    assert isinstance(taken, bytes)
    with pytest.raises(ValueError, match="unknown attribute 'something'"):
        Shelf().restore(taken)


def test_the_context_is_refused_when_no_command_runs() -> None:
    counter = Counter()
    with pytest.raises(RuntimeError, match="running_at"):
        counter.when()


def test_random_numbers_are_equal_when_the_viewstamp_is_equal() -> None:
    one, two = Counter(), Counter()
    with running_at(one, seqno=7):
        first = one.when()
    with running_at(two, seqno=7):
        assert two.when() == first
    with running_at(two, seqno=8):
        assert two.when()[2] != first[2]


def test_random_numbers_go_on_when_a_command_draws_twice() -> None:
    counter = Counter()
    with running_at(counter) as context:
        assert context.random.random() != context.random.random()


def test_a_query_may_neither_notify_nor_draw_when_it_runs() -> None:
    with running_at(Counter()) as context:
        context.reading = True
        with pytest.raises(RuntimeError, match="a query has no notifications"):
            context.notify(1, "x")
        with pytest.raises(RuntimeError, match="a query has no random numbers"):
            _ = context.random


def test_a_composed_machine_restores_each_part_when_parts_are_equal_or_empty() -> None:
    both = compose(left=Counter, right=Counter, shelf=Shelf)()
    parts = vars(both)["machines"]
    parts["left"].add(3, "x")
    taken = both.snapshot()
    again = compose(left=Counter, right=Counter, shelf=Shelf)()
    again.restore(taken if isinstance(taken, bytes) else b"".join(taken))
    restored = vars(again)["machines"]
    assert (restored["left"].value, restored["right"].value) == (3, 0)
    assert restored["left"].log == ["x"]


@pytest.mark.parametrize("keep", [slice(0, -9), slice(0, 5), slice(0, 0), slice(1, None)])
def test_a_composed_machine_refuses_a_snapshot_when_it_is_damaged(keep: slice) -> None:
    both = compose(left=Counter, right=Counter)()
    taken = both.snapshot()
    whole = taken if isinstance(taken, bytes) else b"".join(taken)
    with pytest.raises(ValueError, match=r"snapshot|cut short"):
        compose(left=Counter, right=Counter)().restore(whole[keep])


class Reminder(StateMachine):
    due: dict[int, str] = {}  # noqa: RUF012  copied for each instance

    @command
    def remind(self, client: int, text: str) -> None:
        self.due[client] = text

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        return self.due.items()


def test_pending_notifications_are_those_of_the_clients_asked_for() -> None:
    composed = compose(Shelf, one=Reminder, two=Reminder)()
    machines = vars(composed)["machines"]
    machines["one"].remind(1, "a")
    machines["one"].remind(2, "b")
    machines["two"].remind(2, "c")
    assert list(composed.pending_notifications_for({2, 3})) == [(2, "b"), (2, "c")]
    assert len(list(composed.pending_notifications())) == 3


def test_the_main_part_keeps_its_names_when_it_is_composed_with_others() -> None:
    composed = compose(Shelf, reminders=Reminder)
    definition = MachineDefinition.of(composed)
    assert sorted(definition.methods) == ["count", "put", "reminders.remind"]
    runner = MachineRunner(definition)
    for method, arguments in (("put", ("a",)), ("reminders.remind", (7, "x")), ("count", ())):
        payload = definition.methods[method].encode_call(arguments, {})
        kind = definition.methods[method].kind
        assert runner.run(definition.decode(kind, payload))[0] == RESULT
    again = runner.restored(b"".join(runner.pieces())).machine
    parts = vars(again)["machines"]
    assert (parts[""].names, parts["reminders"].due) == (["a"], {7: "x"})


@pytest.mark.parametrize("name", ["put", "context"])
def test_composing_is_refused_when_a_part_would_hide_a_name_of_the_main_part(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no room for a part called '{name}'"):
        compose(Shelf, **{name: Reminder})


def test_composing_is_refused_when_there_is_nothing_to_compose() -> None:
    with pytest.raises(ConfigurationError, match="at least one part"):
        compose()
    with pytest.raises(ConfigurationError, match="not a class derived"):
        compose(kv=int)  # type: ignore[arg-type]


class Member(msgspec.Struct, frozen=True):
    name: str
    roles: frozenset[str] = frozenset()
    seats: dict[str, set[int]] = {}


class Groups(StateMachine):
    members: dict[str, Member] = {}  # noqa: RUF012
    names: dict[str, set[str]] = {}  # noqa: RUF012

    @command
    def join(self, group: str, names: list[str]) -> dict[str, set[str]]:
        self.names.setdefault(group, set()).update(names)
        self.members[group] = Member(group, frozenset(names), {name: {1, 8, 0} for name in names})
        return self.names


def test_bytes_are_equal_when_sets_in_dicts_were_filled_in_another_order() -> None:
    names = [f"name{number}" for number in range(40)]
    one, other = Groups(), Groups()
    one.join("b", names)
    one.join("a", names[:3])
    for name in reversed(names):
        other.join("b", [name])
    other.join("b", names)
    other.join("a", names[:3])
    assert one.snapshot() == other.snapshot()
    method = MachineDefinition.of(Groups).methods["join"]
    assert method.encode_result(one.names) == method.encode_result(other.names)
    again = Groups()
    again.restore(bytes(one.snapshot()))  # type: ignore[arg-type]
    assert list(again.names) == ["b", "a"]
    assert again.members == one.members


def test_a_command_has_no_way_to_send_but_one_way_messages() -> None:
    """What a command could wait for would be another answer on each replica (docs/requirements.md#r95)."""
    offered = {name for name in dir(Context) if callable(getattr(Context, name)) and name[0] != "_"}
    of_the_runner = {"take_notifications"}
    assert offered - of_the_runner == {"changed", "notify", "wait_for"}
