"""`viewstamp recover`: from what is left of a cluster to a new one."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.runtime.fakes import cluster_of, quick_config, until
from tests.runtime.machines import Counter
from viewstamp.cli import failures
from viewstamp.core.errors import NodeRemoved
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.last_heard import read_last_heard
from viewstamp.runtime.server import Server

SLOW_S = 20.0


def server(cluster: ClusterConfig, node: int, data: Path) -> Server:
    config = quick_config(data=str(data), segment_bytes=1 << 20)
    return Server(cluster, NodeId(node), Counter, config)


async def lose_a_majority(folder: Path, protocol: str) -> None:
    """Let three servers count to 5; all of them die, and the directories stay."""
    cluster = cluster_of(*free_ports(3))
    cluster = ClusterConfig(cluster_id="lost", members=cluster.members, protocol=protocol)
    servers = [server(cluster, node, folder / f"d{node}") for node in (1, 2, 3)]
    for each in servers:
        await each.start()
    if protocol == "primary_backup":
        await until(lambda: any(each.status().leader is not None for each in servers), timeout_s=SLOW_S)
    async with connect(cluster, Counter, timeout_s=SLOW_S) as counter:
        for _ in range(5):
            await counter.add(1)
    await until(
        lambda: all(read_last_heard(str(folder / f"d{node}")) for node in (1, 2, 3)), timeout_s=SLOW_S
    )
    for each in servers:
        await each.kill()


async def count_on(folder: Path, cluster_id: str, node: int, protocol: str = "raft") -> int:
    """Start the new cluster, add 1, and return the sum."""
    (port,) = free_ports(1)
    alone = cluster_of(port).members[0]
    members = (type(alone)(node, alone.host, port),)
    cluster = ClusterConfig(cluster_id=cluster_id, members=members, protocol=protocol)
    running = server(cluster, node, folder)
    await running.start()
    try:
        async with connect(cluster, Counter, timeout_s=SLOW_S) as counter:
            return await counter.add(1)
    finally:
        await running.stop()


def test_cluster_when_two_of_three_disks_are_lost_goes_on_as_a_new_one(
    command: Command, tmp_path: Path
) -> None:
    asyncio.run(lose_a_majority(tmp_path, "raft"))
    said = command("recover", "plan", "d2").out
    assert "kept for certain: everything up to entry" in said
    assert "node 2 last heard of a leader at 20" in said
    assert "nodes that must never start again from their old directories: 1, 3" in said
    (tmp_path / "plan.json").write_text(command("recover", "plan", "d2", "--json").out)
    made = json.loads((tmp_path / "plan.json").read_text())
    ran = command("recover", "apply", "plan.json", "d2", "--advance", 100)
    assert ran.code == failures.DONE
    assert "will never start again" in ran.out
    assert command("recover", "plan", "d2").out.startswith(
        "caution: d2 was recovered before, do not do it again: the cluster was recovered as "
    )
    assert "caution" not in said
    assert asyncio.run(count_on(tmp_path / "d2-recovered", made["new_cluster_id"], 2)) in {5, 6}
    with pytest.raises(NodeRemoved, match="was recovered as"):
        asyncio.run(server(cluster_of(*free_ports(3), cluster_id="lost"), 2, tmp_path / "d2").start())


def test_plan_when_the_directory_changed_or_is_another_is_not_carried_out(
    command: Command, tmp_path: Path
) -> None:
    asyncio.run(lose_a_majority(tmp_path, "raft"))
    (tmp_path / "plan.json").write_text(command("recover", "plan", "d1", "--json").out)
    assert "is not one of the plan's directories" in command("recover", "apply", "plan.json", "d3").complaint
    made = json.loads((tmp_path / "plan.json").read_text())
    for advance in (0, -1, 1 << 40):
        ran = command("recover", "apply", "plan.json", "d1", f"--advance={advance}")
        assert ran.code == failures.CONFIGURATION
        assert "must move ahead by 1 at least" in ran.complaint
        assert not (tmp_path / "d1-recovered").exists()
    made["directories"][0]["fingerprint"] = "0"
    (tmp_path / "plan.json").write_text(json.dumps(made))
    assert "has changed since the plan was made" in command("recover", "apply", "plan.json", "d1").complaint
    assert not (tmp_path / "d1-recovered").exists()
    (tmp_path / "plan.json").write_text("{}")
    assert "is not a plan" in command("recover", "apply", "plan.json", "d1").complaint


def test_plan_when_two_are_left_that_differ_takes_one_and_names_the_other(
    command: Command, tmp_path: Path
) -> None:
    asyncio.run(lose_a_majority(tmp_path, "raft"))
    made = command("recover", "plan", "d1", "d2", "--json").json
    assert made["taken"] in {1, 2}
    assert made["dead"] == [3]
    assert {directory["node"] for directory in made["directories"]} == {1, 2}
    same = command("recover", "plan", "d1", "d1")
    assert same.code == failures.CONFIGURATION


@pytest.mark.parametrize("protocol", ["viewstamped", "primary_backup"])
def test_synchronised_member_when_it_is_left_goes_on_as_a_new_cluster_with_everything(
    command: Command, tmp_path: Path, protocol: str
) -> None:
    asyncio.run(lose_a_majority(tmp_path, protocol))
    plans = {node: command("recover", "plan", f"d{node}", "--json").json for node in (1, 2, 3)}
    node, made = next((node, each) for node, each in plans.items() if each["complete"])
    directory = f"d{node}"
    (tmp_path / "plan.json").write_text(json.dumps({**made, "complete": False}))
    assert "say --accept-loss" in command("recover", "apply", "plan.json", directory).complaint
    made_of_it = tmp_path / f"{directory}-recovered"
    assert not made_of_it.exists()
    (tmp_path / "plan.json").write_text(json.dumps(made))
    assert command("recover", "apply", "plan.json", directory, "--advance", 2_000).code == failures.DONE
    again = asyncio.run(count_on(made_of_it, made["new_cluster_id"], node, protocol))
    assert again == 6, "all five were acknowledged"
    assert asyncio.run(count_on(made_of_it, made["new_cluster_id"], node, protocol)) == 7
