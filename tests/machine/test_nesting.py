from typing import Any

import msgspec
import pytest

from tests.border.machines import Branch, Fragile
from viewstamp.core.ids import LogTime, Seqno, View, Viewstamp
from viewstamp.core.messages import FAILED, RESULT
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.nesting import (
    DEPTH_MAX,
    RESULT_DEPTH_MAX,
    TooDeep,
    deeper_than,
    encode_within,
    is_bounded,
)
from viewstamp.machine.runner import FRAMES, MachineRunner, depth

DEFINITION = MachineDefinition.of(Fragile)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("hint", "bounded"),
    [
        (int, True),
        (dict[str, list[tuple[int, str]]], True),
        (Any, False),
        (list[Any], False),
        (Branch, False),
    ],
)
def test_a_type_is_bounded_when_nothing_in_it_can_nest_without_end(hint: Any, bounded: bool) -> None:
    assert is_bounded(hint) is bounded


@pytest.mark.parametrize("levels", [0, 1, 5, 2_000])
def test_the_depth_of_a_value_is_measured_without_recursion(levels: int) -> None:
    assert not deeper_than(nested(levels), levels)
    assert levels == 0 or deeper_than(nested(levels), levels - 1)


def test_a_ring_is_too_deep_and_no_accident() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(TooDeep):
        encode_within(msgspec.msgpack.encode, ring, 5)


@pytest.mark.parametrize(("levels", "kind"), [(RESULT_DEPTH_MAX, RESULT), (RESULT_DEPTH_MAX + 1, FAILED)])
def test_a_result_fails_when_it_is_nested_too_deep(levels: int, kind: int) -> None:
    runner = MachineRunner(DEFINITION)
    runner.begin_entry(Viewstamp(View(1), Seqno(1)), LogTime(1))
    arguments = DEFINITION.decode("command", msgspec.msgpack.encode(["build", levels]))
    assert runner.run(arguments)[0] == kind
    runner.end_entry()


def test_an_argument_is_refused_when_it_is_nested_too_deep() -> None:
    def canonical(levels: int) -> bytes:
        payload = msgspec.msgpack.encode(["keep", nested(levels)])
        return DEFINITION.canonical(DEFINITION.decoder("command")(payload))

    assert canonical(DEPTH_MAX)
    with pytest.raises(msgspec.ValidationError, match=f"nested deeper than {DEPTH_MAX}"):
        canonical(DEPTH_MAX + 1)


def frames_left() -> int:
    def down(count: int) -> int:
        try:
            return down(count + 1)
        except RecursionError:
            return count

    return down(0)


def measured(below: int) -> tuple[int, int]:
    if below:
        return measured(below - 1)
    runner = MachineRunner(DEFINITION)
    runner.begin_entry(Viewstamp(View(1), Seqno(1)), LogTime(0))
    left = frames_left()
    runner.end_entry()
    return left, depth()


def test_the_room_is_the_same_at_every_depth_of_the_stack() -> None:
    (left, here), (left_below, below) = measured(0), measured(300)
    assert below >= here + 300
    assert left == left_below
    assert abs(left - FRAMES) < 10
