"""Replicated containers: they do what Python's own do, under the types that their class names."""

from collections import deque
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.containers import (
    PAGE_MAX,
    ReplicatedCounter,
    ReplicatedDeque,
    ReplicatedDict,
    ReplicatedList,
    ReplicatedQueue,
    ReplicatedSet,
)
from viewstamp.core.errors import InvalidCall
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, annotated_state, command
from viewstamp.runtime.local import local_cluster

T = TypeVar("T")


class Scores(ReplicatedDict[str, int]):
    """Points by player."""

    @command
    def double(self, key: str) -> int:
        """Add a command to what there is."""
        self.entries[key] *= 2
        return self.entries[key]


class Lines(ReplicatedList[str]):
    """Lines of text."""


class Tags(ReplicatedSet[str]):
    """Tags."""


class Tasks(ReplicatedQueue[int]):
    """A few tasks."""

    most = 3


class Ends(ReplicatedDeque[int]):
    """Numbers."""

    most = 4


class ByName(ReplicatedDict[str, T]):
    """Still generic in its values."""


class Sizes(ByName[list[int]]):
    """Concrete at last."""


KINDS: list[type[StateMachine]] = [Scores, Lines, Tags, Tasks, Ends, ReplicatedCounter]


@pytest.mark.parametrize("kind", KINDS)
def test_each_can_be_replicated_with_its_types(kind: type[StateMachine]) -> None:
    definition = MachineDefinition.of(kind)
    assert all("~" not in str(method.signature) for method in definition.methods.values())


def test_arguments_are_checked_by_the_types_that_the_class_names() -> None:
    definition = MachineDefinition.of(Scores)
    wrong = definition.methods["set"].encode_call(("ann", "three"), {})
    with pytest.raises(InvalidCall, match="Expected `int`"):
        definition.decode("command", wrong)
    assert annotated_state(Scores) == {"entries": dict[str, int]}
    assert annotated_state(Sizes) == {"entries": dict[str, list[int]]}


def test_one_without_types_holds_whatever_can_be_sent() -> None:
    definition = MachineDefinition.of(ReplicatedDict)
    call = definition.methods["set"].encode_call((1, ["x", None]), {})
    assert definition.decode("command", call).value == ["x", None]


def again(machine: Any) -> Any:
    taken = machine.snapshot()
    fresh = type(machine)()
    fresh.restore(taken)
    return fresh


KEYS = st.sampled_from("abc")
NUMBERS = st.integers(-5, 5)


@given(st.lists(st.tuples(st.sampled_from(["set", "default", "replace", "update", "pop"]), KEYS, NUMBERS)))
def test_a_dict_is_a_dict(steps: list[tuple[str, str, int]]) -> None:
    ours, theirs = Scores(), dict[str, int]()
    for step, key, number in steps:
        if step == "set":
            ours.set(key, number)
            theirs[key] = number
        elif step == "default":
            assert ours.set_default(key, number) == theirs.setdefault(key, number)
        elif step == "replace":
            assert ours.replace(key, theirs.get(key), number)
            assert not ours.replace(key, 99, number)
            theirs[key] = number
        elif step == "update":
            ours.update({key: number, "d": number})
            theirs.update({key: number, "d": number})
        else:
            assert ours.pop(key) == theirs.pop(key, None)
        ours = again(ours)
        assert ours.items() == list(theirs.items())
        assert (ours.size(), ours.contains(key), ours.get(key)) == (
            len(theirs),
            key in theirs,
            theirs.get(key),
        )
    assert ours.items(1, 1) == list(theirs.items())[1:2]


@given(st.lists(st.tuples(st.sampled_from(["append", "left", "pop", "pop left"]), NUMBERS)))
def test_a_deque_is_a_deque(steps: list[tuple[str, int]]) -> None:
    ours, theirs = Ends(), deque[int]()
    for step, number in steps:
        room = len(theirs) < 4
        if step == "append":
            assert ours.append(number) is room
            theirs.extend([number] if room else [])
        elif step == "left":
            assert ours.append_left(number) is room
            theirs.extendleft([number] if room else [])
        elif step == "pop":
            assert ours.pop() == (theirs.pop() if theirs else None)
        else:
            assert ours.pop_left() == (theirs.popleft() if theirs else None)
        ours = again(ours)
        assert (ours.slice(), ours.size()) == (list(theirs), len(theirs))


@given(st.lists(st.tuples(st.sampled_from(["add", "discard", "update"]), KEYS)))
def test_a_set_is_a_set_in_order(steps: list[tuple[str, str]]) -> None:
    ours, theirs = Tags(), dict[str, None]()
    for step, value in steps:
        if step == "add":
            assert ours.add(value) is (value not in theirs)
            theirs.setdefault(value)
        elif step == "discard":
            assert ours.discard(value) is (value in theirs)
            theirs.pop(value, None)
        else:
            assert ours.update([value, value, "d"]) == len({value, "d"} - set(theirs))
            theirs.update(dict.fromkeys([value, "d"]))
        assert (ours.values(), ours.size(), ours.contains(value)) == ([*theirs], len(theirs), value in theirs)


def test_a_queue_is_first_in_first_out_and_bounded() -> None:
    tasks = Tasks()
    assert [tasks.put(number) for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert (tasks.peek(), tasks.take()) == (1, 1)
    tasks = again(tasks)
    assert tasks.put(5)
    assert ([tasks.take() for _ in range(4)], tasks.size(), tasks.peek()) == ([2, 3, 5, None], 0, None)


def test_a_list_is_a_list() -> None:
    lines = Lines()
    assert [lines.append("a"), lines.append("c")] == [0, 1]
    lines.insert(1, "b")
    lines.extend(["d", "e"])
    lines.set(0, "A")
    lines.remove("d")
    assert (lines.pop(), lines.pop(0), lines.slice(), lines.get(-1)) == ("e", "A", ["b", "c"], "c")
    assert lines.slice(-5, 10 * PAGE_MAX) == ["b", "c"]
    for call in (lambda: lines.get(2), lambda: lines.pop(7), lambda: lines.set(2, "x")):
        with pytest.raises(IndexError):
            call()
    with pytest.raises(ValueError, match="not in list"):
        lines.remove("x")
    lines.clear()
    assert lines.size() == 0


def test_all_can_be_emptied() -> None:
    scores, tags, ends = Scores(), Tags(), Ends()
    scores.set("a", 1)
    tags.add("a")
    ends.append(1)
    for container in (scores, tags, ends):
        container.clear()
        assert container.size() == 0
    counter = ReplicatedCounter()
    counter.set(3)
    assert (counter.add(2), counter.get()) == (5, 5)


async def test_a_client_calls_them_by_name_and_adds_commands_of_its_own() -> None:
    async with local_cluster(Scores, replicas=1) as cluster, cluster.connect() as scores:
        await scores.set("ann", 3)
        twice: int = await scores.double("ann")
        held: int | None = await scores.get("ann")
        assert (twice, held, await scores.items()) == (6, 6, [("ann", 6)])
