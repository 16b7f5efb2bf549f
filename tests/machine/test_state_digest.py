"""The digest of a state is equal where the states are, in whatever process, and differs where they differ."""

import subprocess
import sys

import pytest

from viewstamp.machine.state_digest import digest_of_pieces, digest_pieces
from viewstamp.machine.state_machine import StateMachine, command, compose


class Sets(StateMachine):
    names: set[str] = set()  # noqa: RUF012  copied for each instance
    groups: dict[str, set[str]] = {}  # noqa: RUF012
    order: dict[str, int] = {}  # noqa: RUF012

    @command
    def fill(self) -> None:
        self.names |= {f"name{number}" for number in range(50)}
        self.groups["a"] = {f"name{number}" for number in range(50)}


def digest(machine: StateMachine) -> int:
    return digest_of_pieces(digest_pieces(machine))


SCRIPT = """
from tests.machine.test_state_digest import Sets, digest
machine = Sets()
machine.fill()
print(digest(machine))
"""


def test_digests_are_equal_in_processes_that_hash_strings_otherwise() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_digests_differ_when_a_value_or_the_order_of_a_dict_does() -> None:
    one, two, three = Sets(), Sets(), Sets()
    assert digest(one) == digest(two)
    one.order.update(a=1, b=2)
    two.order.update(b=2, a=1)
    assert digest(one) != digest(two)
    three.names.add("x")
    assert digest(three) != digest(Sets())


@pytest.mark.parametrize("part", ["left", "right"])
def test_the_parts_of_a_composed_machine_count_each(part: str) -> None:
    Both = compose(left=Sets, right=Sets)  # noqa: N806  a class
    one, two = Both(), Both()
    assert digest(one) == digest(two)
    vars(two)["machines"][part].order["a"] = 1
    assert digest(one) != digest(two)
