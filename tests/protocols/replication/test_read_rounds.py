"""Rounds of confirmation: which reads one serves, and when it is over."""

import pytest

from tests.mutants.lone import Lone
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.read_rounds import ReadRounds


class Leads:
    """A leader whose followers answer when the test says so, and the reader of its reads."""

    def __init__(self) -> None:
        self.round = 0
        self.confirmed = 0
        self.has_committed = True
        self.heartbeats = 0
        self.answered: list[tuple[str, int]] = []
        self.refused: list[str] = []

    def has_confirmed(self, number: int) -> bool:
        return self.confirmed >= number

    def send_heartbeat(self) -> None:
        self.heartbeats += 1

    def answer(self, origin: str, index: int) -> None:
        self.answered.append((origin, index))

    def refuse(self, origin: str) -> None:
        self.refused.append(origin)


@pytest.fixture
def state() -> State:
    state: State = Lone([1, 1, 1]).state
    state.committed = state.applied = 2
    return state


def test_reads_when_a_round_is_under_way_wait_for_the_next(state: State) -> None:
    leads = Leads()
    reads = ReadRounds[str](state, leads, leads)
    for name in ("a", "b", "c"):
        reads.ask(name)
    assert (leads.round, leads.heartbeats) == (1, 1)
    leads.confirmed = 1
    reads.proceed()
    assert leads.answered == [("a", 2)], "b and c came after the round had begun"
    assert (leads.round, leads.heartbeats) == (2, 2), "one round for both"
    leads.confirmed = 2
    reads.proceed()
    assert leads.answered[1:] == [("b", 2), ("c", 2)]


def test_read_when_its_index_is_not_applied_waits(state: State) -> None:
    leads = Leads()
    reads = ReadRounds[str](state, leads, leads)
    state.applied = 1
    reads.ask("a")
    leads.confirmed = 1
    reads.proceed()
    assert leads.answered == []
    state.applied = 2
    reads.proceed()
    assert leads.answered == [("a", 2)]


def test_round_when_the_leader_has_not_committed_in_its_view_does_not_begin(state: State) -> None:
    leads = Leads()
    leads.has_committed = False
    reads = ReadRounds[str](state, leads, leads)
    reads.ask("a")
    assert leads.round == 0
    leads.has_committed = True
    reads.proceed()
    assert leads.round == 1


def test_reads_when_the_leader_steps_down_are_all_refused(state: State) -> None:
    leads = Leads()
    reads = ReadRounds[str](state, leads, leads)
    reads.ask("a")
    reads.ask("b")
    reads.refuse_all()
    assert leads.refused == ["a", "b"]
    leads.confirmed = 9
    reads.proceed()
    assert leads.answered == []
