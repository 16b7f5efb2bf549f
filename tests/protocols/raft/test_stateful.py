"""Raft under Hypothesis: any order of deliveries, losses, doubles, crashes and slow disks, always judged."""

from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.protocols.raft.chaos import Chaos, walk

NUMBERS = st.integers(0, 999)


class RaftMachine(RuleBasedStateMachine):
    """Rules are the moves of `Chaos`; the harness asserts the invariants in every step."""

    size: ClassVar[int] = 3

    def __init__(self) -> None:
        super().__init__()
        self.chaos: Chaos | None = None

    @property
    def cluster(self) -> Chaos:
        assert self.chaos is not None
        return self.chaos

    @initialize(size=st.sampled_from((1, 2, 3, 3, 4, 5)), bootstrapped=st.booleans())
    def begin(self, size: int, bootstrapped: bool) -> None:
        self.chaos = Chaos(size)
        if bootstrapped:
            self.chaos.cluster.elect()

    @rule(number=NUMBERS)
    def deliver(self, number: int) -> None:
        self.cluster.deliver(number)

    @rule(number=NUMBERS)
    def deliver_some(self, number: int) -> None:
        self.cluster.deliver_some(number)

    @precondition(lambda self: self.chaos and self.chaos.cluster.letters)
    @rule(number=NUMBERS, duplicated=st.booleans())
    def disturb(self, number: int, duplicated: bool) -> None:
        if duplicated:
            self.cluster.double(number)
        else:
            self.cluster.drop(number)

    @rule(number=NUMBERS)
    def wake(self, number: int) -> None:
        self.cluster.wake(number)

    @rule(number=NUMBERS)
    def propose(self, number: int) -> None:
        self.cluster.propose(number)

    @rule(number=NUMBERS)
    def query(self, number: int) -> None:
        self.cluster.query(number)

    @rule(number=NUMBERS)
    def crash(self, number: int) -> None:
        self.cluster.crash(number)

    @rule(number=NUMBERS)
    def restart(self, number: int) -> None:
        self.cluster.restart(number)

    @rule(number=NUMBERS)
    def wipe(self, number: int) -> None:
        self.cluster.wipe(number)

    @rule(number=NUMBERS, slow=st.booleans())
    def disk(self, number: int, slow: bool) -> None:
        if slow:
            self.cluster.hold_disk(number)
        else:
            self.cluster.sync_disk(number)

    @rule(number=NUMBERS)
    def hold_captures(self, number: int) -> None:
        self.cluster.hold_captures(number)

    @rule(number=NUMBERS)
    def direct(self, number: int) -> None:
        if number % 2:
            self.cluster.transfer(number // 2)
        else:
            self.cluster.snapshot(number // 2)

    def teardown(self) -> None:
        if self.chaos is not None:
            self.chaos.calm()


TestRaft = RaftMachine.TestCase
TestRaft.settings = settings(
    max_examples=60,
    stateful_step_count=60,
)


@pytest.mark.parametrize("seed", range(0, 400, 40))
def test_random_walks_when_everything_happens(seed: int) -> None:
    for offset in range(40):
        walk(seed + offset, 500)
