"""`viewstamp doctor` against a cluster in this process, and what it says of accounts that are made up."""

import msgspec
import pytest

from tests.cli.conftest import Cluster, Command
from viewstamp.cli import doctor, failures, status
from viewstamp.cli.doctor import compared, examine
from viewstamp.core.ids import ORIGIN, NodeId, View
from viewstamp.core.protocol import PeerStatus, Status
from viewstamp.runtime import operator
from viewstamp.runtime.cluster_health import Account, Health
from viewstamp.runtime.config import MIB, ClusterConfig, Member

NODES = (NodeId(1), NodeId(2), NodeId(3))
CONFIG = ClusterConfig(
    cluster_id="c", members=tuple(Member(node, "127.0.0.1", 7_000 + node) for node in NODES)
)


def _well(node: NodeId) -> Status:
    status = Status(node, "follower", View(3), NodeId(1), ORIGIN, 0, 0, 0, 0, NODES, fingerprint=7)
    figures = (("wall_us", 10**15), ("sync_us", 500), ("disk_free_bytes", 4_000 * MIB), ("disk_is_low", 0))
    others = tuple(other for other in NODES if other != node)
    return msgspec.structs.replace(status, connected=others, figures=figures)


def _found(**changed: object) -> dict[str, tuple[str, str]]:
    """Return what is said of a cluster that is well but for these fields of node 2."""
    accounts: dict[NodeId, Account] = {node: _well(node) for node in NODES}
    accounts[NodeId(2)] = msgspec.structs.replace(_well(NodeId(2)), **changed)
    return {each.what: (each.verdict, each.text) for each in examine(CONFIG, accounts)}


def _figures(**changed: int) -> tuple[tuple[str, int], ...]:
    return tuple({**dict(_well(NodeId(2)).figures), **changed}.items())


def test_all_is_well_when_nothing_is_wrong() -> None:
    assert {verdict for verdict, _ in _found().values()} == {"ok"}


@pytest.mark.parametrize(
    ("changed", "what", "verdict", "text"),
    [
        ({"waiting_for": "no quorum"}, "node 2", "wrong", "no quorum"),
        ({"waiting_for": "no quorum"}, "cluster", "warning", "one failure from outage"),
        ({"warnings": ("expires soon",)}, "node 2", "warning", "expires soon"),
        ({"fingerprint": 8}, "versions", "warning", "node 2: 0000000000000008"),
        ({"figures": _figures(wall_us=10**15 + 3_000_000)}, "clocks", "warning", "at most 3.0 s"),
        ({"figures": _figures(sync_us=200_000)}, "disk of node 2", "warning", "a sync takes 200.0 ms"),
        ({"figures": _figures(disk_free_bytes=100 * MIB)}, "disk of node 2", "warning", "100 MiB are free"),
        ({"figures": _figures(disk_is_low=1)}, "disk of node 2", "wrong", "refuses commands"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, object], what: str, verdict: str, text: str) -> None:
    found = _found(**changed)
    assert found[what][0] == verdict
    assert text in found[what][1]


def test_a_member_that_was_never_heard_is_named() -> None:
    accounts: dict[NodeId, Account] = {node: _well(node) for node in NODES}
    peers = (PeerStatus(NodeId(2), 0, "replicate", 5), PeerStatus(NodeId(4), 0, "probe", None))
    accounts[NodeId(1)] = msgspec.structs.replace(_well(NodeId(1)), peers=peers)
    accounts[NodeId(3)] = msgspec.structs.replace(  # it led in an earlier view, and does not know it yet
        _well(NodeId(3)), leader=NodeId(3), view=View(2), peers=(PeerStatus(NodeId(2), 0, "probe", None),)
    )
    found = {each.what: (each.verdict, each.text) for each in examine(CONFIG, accounts)}
    assert found["member 4"][0] == "warning"
    assert found["member 4"][1].startswith("node 1, which leads, has heard nothing of it")
    assert "member 2" not in found


def test_a_pair_that_is_not_connected_either_way_is_named() -> None:
    accounts: dict[NodeId, Account] = {node: _well(node) for node in NODES}
    accounts[NodeId(2)] = msgspec.structs.replace(_well(NodeId(2)), connected=(NodeId(1),))
    assert all(each.verdict == "ok" for each in examine(CONFIG, accounts)), "one way is enough"
    accounts[NodeId(3)] = msgspec.structs.replace(_well(NodeId(3)), connected=(NodeId(1),))
    (pairs,) = (each for each in examine(CONFIG, accounts) if each.what == "pairs")
    assert (pairs.verdict, "nodes 2 and 3 do not reach each other" in pairs.text) == ("wrong", True)


def test_states_are_compared_where_most_nodes_stand() -> None:
    assert compared({NodeId(1): ((5, 1),), NodeId(2): ((6, 1),)}) is None
    equal = compared({NodeId(1): ((5, 1), (6, 2)), NodeId(2): ((6, 2),), NodeId(3): ((5, 9),)})
    assert equal is not None
    assert (equal.verdict, "at entry 6 are equal" in equal.text) == ("ok", True)
    odd = compared({NodeId(1): ((5, 1),), NodeId(2): ((5, 1),), NodeId(3): ((5, 9),)})
    assert odd is not None
    assert odd.verdict == "wrong"
    assert "node 3: 0000000000000009" in odd.text


def test_a_living_cluster_is_well_and_its_states_are_equal(command: Command, here: Cluster) -> None:
    command("kv", "put", "doctor", "1")
    ran = command("doctor", "--compare-state", "--json")
    found = {each["what"]: each for each in ran.json["findings"]}
    assert found["pairs"]["verdict"] == "ok", found
    assert found["state"]["verdict"] == "ok", found
    assert found["state"]["text"].count("node ") == len(here.config.node_ids)
    assert ran.code == failures.DONE, found
    assert "wall clocks differ by at most" in command("doctor").out


def test_a_dead_node_is_wrong(command: Command, here: Cluster) -> None:
    victim = next(node for node in here.config.node_ids if node != here.leader())
    here.kill(victim)
    try:
        ran = command("doctor", "--timeout", "0.5")
    finally:
        here.restart(victim)
    assert ran.code == failures.REFUSED
    assert f"wrong   node {victim}: " in ran.out


def test_states_are_compared_within_the_time_when_nodes_do_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, asked = [0.0], list[NodeId]()
    accounts: dict[NodeId, Account] = {NodeId(1): _well(NodeId(1)), NodeId(2): "no answer in time"}

    def direct(_: object, node: NodeId, __: object, *, timeout_s: float) -> None:
        assert timeout_s <= 5.0
        asked.append(node)

    def told(_: object, *, timeout_s: float) -> dict[NodeId, Account]:
        clock[0] += timeout_s  # one node keeps silent
        return accounts

    monkeypatch.setattr(doctor, "monotonic", lambda: clock[0])
    monkeypatch.setattr(operator, "direct", direct)
    monkeypatch.setattr(operator, "cluster_status", told)
    assert doctor.compare(CONFIG, 5.0).verdict == "warning"
    assert set(asked) == {1}
    assert clock[0] <= 5.0 + 2.0


def test_status_waits_no_longer_than_it_may_when_nodes_do_not_answer(
    command: Command, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, given = [0.0], list[float]()

    def ask(config: ClusterConfig, timeout_s: float) -> status._Found:
        given.append(timeout_s)
        clock[0] += timeout_s
        return status._Found(config, {}, Health("down", None, (), (), 2), "")

    monkeypatch.setattr(status, "monotonic", lambda: clock[0])
    monkeypatch.setattr(status, "_ask", ask)
    assert command("status", "--wait", "3").code == failures.DOWN
    assert given == [2.0, 1.0]
    assert command("status", "--wait", "-1").complaint.startswith("--wait -1")
