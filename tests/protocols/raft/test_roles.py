"""Changes of role: the table, the diagram made of it, and what a change begins and ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocols.raft.harness import Cluster
from viewstamp.protocols.raft.roles import ROLE_TRANSITIONS
from viewstamp.protocols.raft.state import Role

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "raft.md"


def diagram() -> Iterator[str]:
    """Return the table as a state diagram."""
    yield "stateDiagram-v2"
    yield "    [*] --> follower"
    for role, successors in ROLE_TRANSITIONS.items():
        for successor, reason in successors.items():
            yield f"    {name(role)} --> {name(successor)}: {reason}"


def name(role: Role) -> str:
    return role.value.replace("-", "_")


def test_the_reference_shows_the_transitions_as_they_are() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    shown = text.split("```mermaid\n", 1)[1].split("\n```", 1)[0]
    assert shown == "\n".join(diagram())


def test_every_role_can_be_left_and_reached() -> None:
    assert set(ROLE_TRANSITIONS) == set(Role)
    assert {role for successors in ROLE_TRANSITIONS.values() for role in successors} == set(Role)


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PRE_CANDIDATE])
def test_node_when_it_was_not_a_candidate_never_becomes_leader(role: Role) -> None:
    core = Cluster(3).core(1)
    core.state.role = role
    core.state.vote = core.state.node
    with pytest.raises(AssertionError):
        core.roles.become_leader()


def test_leader_when_it_leads_never_campaigns() -> None:
    cluster = Cluster(3)
    core = cluster.core(cluster.elect())
    for change in (core.roles.become_pre_candidate, core.roles.become_candidate, core.election.campaign):
        with pytest.raises(AssertionError):
            change()


def test_term_when_a_node_is_to_follow_never_goes_back() -> None:
    cluster = Cluster(3)
    core = cluster.core(cluster.elect())
    with pytest.raises(AssertionError):
        core.roles.become_follower(core.state.term - 1, None)


def test_leader_when_it_steps_down_knows_no_followers() -> None:
    cluster = Cluster(3)
    core = cluster.core(cluster.elect())
    assert core.replication.progress
    core.roles.become_follower(core.state.term, None)
    assert (core.state.role, core.state.leader) == (Role.FOLLOWER, None)
    assert not core.replication.progress
