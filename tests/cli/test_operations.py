"""`status`, `transfer`, `snapshot`, `bench` against a cluster in this process."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cluster, Command
from viewstamp.cli import failures
from viewstamp.cli.bench import quantile_us
from viewstamp.cli.check import check


def test_every_node_is_shown_when_all_answer(command: Command, here: Cluster) -> None:
    command("kv", "put", "status", "1")
    ran = command("status", "--json")
    assert ran.code == failures.DONE
    assert ran.json["leader"] in here.config.node_ids
    assert [node["node"] for node in ran.json["nodes"]] == list(here.config.node_ids)
    assert all(node["reachable"] for node in ran.json["nodes"])
    lines = command("status").out.splitlines()
    assert lines[0].split()[:5] == ["NODE", "ADDRESS", "ROLE", "VIEW", "LEADER"]
    assert len(lines) == 1 + len(here.config.node_ids)


@pytest.mark.parametrize("value", [1 << 63, 99999999999999999999, -1])
def test_limit_when_no_message_could_hold_it_is_refused(command: Command, here: Cluster, value: int) -> None:
    ran = command("set", "sessions.time_to_live_ms", "--", value)
    assert ran.code == failures.CONFIGURATION
    assert "nothing was changed" in ran.complaint


def test_dead_node_is_named_when_it_does_not_answer(command: Command, here: Cluster) -> None:
    victim = next(node for node in here.config.node_ids if node != here.leader())
    here.kill(victim)
    try:
        ran = command("status", "--timeout", "0.5")
        document = command("status", "--timeout", "0.5", "--json").json
    finally:
        here.restart(victim)
    assert ran.code == failures.REFUSED
    assert f"node {victim}: " in ran.out
    assert "the cluster is one failure from outage: 2 of 3 voters serve, 2 are needed" in ran.out
    assert document["state"] == "one failure from outage"
    assert [node["node"] for node in document["nodes"] if not node["reachable"]] == [victim]


def test_status_waits_until_the_cluster_is_healthy(command: Command, here: Cluster) -> None:
    victim = next(node for node in here.config.node_ids if node != here.leader())
    here.kill(victim)
    here.restart(victim)
    assert command("status", "--wait", "30").code == failures.DONE


def test_one_node_is_shown_with_its_budgets_when_it_is_named(command: Command, here: Cluster) -> None:
    node = here.leader()
    ran = command("status", "--node", str(node))
    assert ran.code == failures.DONE
    assert "commands waiting: 0 of 65536" in ran.out
    assert "fingerprint of the class: " in ran.out
    assert [each["node"] for each in command("status", "--node", str(node), "--json").json["nodes"]] == [node]
    assert command("status", "--node", "99").code == failures.CONFIGURATION


def test_nobody_serves_when_the_majority_is_down(command: Command, here: Cluster) -> None:
    victims = [node for node in here.config.node_ids if node != here.leader()]
    for node in victims:
        here.kill(node)
    try:
        ran = command("status", "--timeout", "0.5", "--wait", "1")
    finally:
        for node in victims:
            here.restart(node)
    assert ran.code == failures.DOWN
    assert "the cluster is down: " in ran.out


def test_leadership_moves_when_it_is_transferred(command: Command, here: Cluster) -> None:
    target = next(node for node in here.config.node_ids if node != here.leader())
    ran = command("transfer", "--to", target)
    assert ran.code == failures.DONE
    assert f"to node {target}" in ran.out
    assert command("status", "--json").json["leader"] == target
    assert f"node {target} leads already" in command("transfer", "--to", target).out


def test_stranger_is_refused_when_leadership_is_to_go_there(command: Command, here: Cluster) -> None:
    ran = command("transfer", "--to", 99)
    assert ran.code == failures.CONFIGURATION
    assert "node 99 is not a member" in ran.complaint


def test_service_says_no_when_the_node_cannot_take_over(command: Command, here: Cluster) -> None:
    target = next(node for node in here.config.node_ids if node != here.leader())
    here.kill(target)
    try:
        ran = command("transfer", "--to", target)
    finally:
        here.restart(target)
    assert ran.code == failures.REFUSED
    assert "refused: " in ran.complaint


def test_history_is_refused_before_anything_is_measured_when_it_cannot_be_written(
    command: Command, here: Cluster
) -> None:
    ran = command("bench", "--seconds", 60, "--history", "none/h.jsonl")
    assert ran.code == failures.CONFIGURATION
    assert "--history none/h.jsonl: it cannot be written; nothing was measured" in ran.complaint
    assert here.leader() in here.config.node_ids


def test_snapshot_is_taken_when_it_is_asked_for(command: Command, here: Cluster) -> None:
    command("kv", "put", "snapshot", "1")
    node = here.config.node_ids[0]
    assert command("snapshot", "--node", node).code == failures.DONE
    taken = {status["node"]: status["snapshot"] for status in command("status", "--json").json["nodes"]}
    assert taken[node] > 0


@pytest.mark.parametrize("name", ["transfer", "snapshot"])
def test_nothing_is_done_when_nobody_leads(command: Command, name: str) -> None:
    command("init", "--members", "127.0.0.1:1,127.0.0.1:2")
    ran = command(name, "--timeout", "0.3")
    assert ran.code == failures.NOT_EXECUTED
    assert "nodes 1, 2 did not answer" in ran.complaint


@pytest.mark.parametrize("workload", ["writes", "reads", "mixed"])
def test_figures_are_told_when_a_cluster_is_loaded(command: Command, here: Cluster, workload: str) -> None:
    ran = command("bench", "--clients", 4, "--seconds", "0.2", "--keys", 5, "--workload", workload, "--json")
    assert ran.code == failures.DONE
    document = ran.json
    assert document["operations"] == document["outcomes"]["ok"] > 0
    assert document["latency_us"]["p50"] <= document["latency_us"]["max"]


def test_history_is_linearizable_when_it_is_recorded(command: Command, here: Cluster, tmp_path: Path) -> None:
    arguments = ["--clients", 6, "--seconds", "0.3", "--keys", 3, "--workload", "mixed"]
    assert command("bench", *arguments, "--history", "h.jsonl").code == failures.DONE
    assert check(tmp_path / "h.jsonl") == failures.DONE
    ran = command("bench", *arguments, "--history", "h.jsonl")
    assert ran.code == failures.CONFIGURATION


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--clients", "0"),
        ("--clients", "1000000"),
        ("--seconds", "0"),
        ("--keys", "0"),
        ("--value-bytes", "-1"),
        ("--value-bytes", "9" * 30),
    ],
)
def test_plan_is_refused_when_it_makes_no_sense(
    command: Command, here: Cluster, flag: str, value: str
) -> None:
    ran = command("bench", flag, value)
    assert ran.code == failures.CONFIGURATION
    assert flag in ran.complaint


def test_quantiles_are_of_what_was_measured() -> None:
    assert quantile_us([], 0.5) is None
    assert [quantile_us([0.001, 0.002, 0.003], share) for share in (0.0, 0.5, 1.0)] == [1000, 2000, 3000]
