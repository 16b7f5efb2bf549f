"""How far a cluster is from an outage, out of what its nodes say (`runtime.cluster_health`)."""

from typing import Literal

import msgspec
import pytest

from viewstamp.core.ids import ORIGIN, Incarnation, NodeId, View
from viewstamp.core.protocol import MembershipStatus, Status
from viewstamp.runtime.cluster_health import Account, assess, seconds_behind

DOWN = "connection refused"
WAITS = "waits"


def _status(node: int, *, leader: int | None = 1, waiting: str = "", log_time: int = 0) -> Status:
    chosen = None if leader is None else NodeId(leader)
    status = Status(NodeId(node), "follower", View(3), chosen, ORIGIN, 0, 0, 0, 0, ())
    return msgspec.structs.replace(status, waiting_for=waiting, log_time=log_time)


def _accounts(nodes: int, down: int, leader: int | None = 1) -> dict[NodeId, Account]:
    up = {NodeId(node): _status(node, leader=leader) for node in range(1, nodes - down + 1)}
    return {**up, **{NodeId(node): DOWN for node in range(nodes - down + 1, nodes + 1)}}


@pytest.mark.parametrize(
    ("nodes", "down", "word", "may_fail"),
    [
        (1, 0, "healthy", 0),
        (2, 0, "healthy", 0),
        (3, 0, "healthy", 1),
        (3, 1, "one failure from outage", 0),
        (3, 2, "down", 0),
        (5, 1, "degraded", 1),
        (5, 2, "one failure from outage", 0),
        (5, 3, "down", 0),
    ],
)
def test_the_state_has_a_name_when_nodes_are_down(nodes: int, down: int, word: str, may_fail: int) -> None:
    health = assess(_accounts(nodes, down), tolerates="minority")
    assert (health.word, health.may_fail) == (word, may_fail)


@pytest.mark.parametrize(
    ("tolerates", "word"), [("minority", "down"), ("all_but_one", "one failure from outage")]
)
def test_one_alone_is_enough_where_the_protocol_says_so(
    tolerates: Literal["minority", "all_but_one"], word: str
) -> None:
    assert assess(_accounts(3, 2), tolerates=tolerates).word == word


def test_a_cluster_is_down_when_nobody_leads_or_the_leader_does_not_answer() -> None:
    assert assess(_accounts(3, 0, leader=None), tolerates="minority").word == "down"
    assert assess(_accounts(3, 1, leader=3), tolerates="minority").word == "down"


def test_a_node_that_waits_or_follows_another_leader_does_not_serve() -> None:
    accounts = _accounts(5, 0)
    accounts[NodeId(2)] = _status(2, waiting=WAITS)
    accounts[NodeId(3)] = _status(3, leader=4)
    health = assess(accounts, tolerates="minority")
    assert (health.serving, health.word) == ((1, 4, 5), "one failure from outage")


def test_voters_are_those_of_the_leaders_log_and_not_of_the_file() -> None:
    voters = tuple((NodeId(node), Incarnation(1)) for node in (1, 2, 9))
    membership = MembershipStatus(ORIGIN, True, voters)
    accounts = _accounts(5, 0)
    first = accounts[NodeId(1)]
    assert isinstance(first, Status)
    accounts[NodeId(1)] = msgspec.structs.replace(first, membership=membership)
    health = assess(accounts, tolerates="minority")
    assert (health.voters, health.word) == ((1, 2, 9), "one failure from outage")


def test_a_node_is_behind_by_the_log_time_that_others_have_executed() -> None:
    accounts: dict[NodeId, Account] = {
        NodeId(1): _status(1, log_time=5_000_000),
        NodeId(2): _status(2, log_time=3_500_000),
        NodeId(3): DOWN,
    }
    second = accounts[NodeId(2)]
    assert isinstance(second, Status)
    assert seconds_behind(second, accounts) == 1.5
