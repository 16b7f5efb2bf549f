"""`viewstamp member`, against a cluster in this process."""

from pathlib import Path

import msgspec

from tests.cli.conftest import Cluster, Command
from viewstamp.cli import failures
from viewstamp.runtime.addresses import format_address, free_ports
from viewstamp.runtime.config import ClusterConfig


def test_members_are_shown_when_they_are_asked_for(command: Command, here: Cluster) -> None:
    document = command("member", "list", "--json").json
    assert document["leader"] == here.leader()
    assert document["settled"]
    assert [(member["node"], member["member"]) for member in document["members"]] == [
        (node, "voter") for node in here.config.node_ids
    ]
    shown = command("member", "list").out
    assert "voter   leads" in shown
    assert "committed at " in shown


def test_cluster_file_is_printed_when_it_is_asked_for(command: Command, here: Cluster) -> None:
    printed = command("member", "list", "--toml").out
    made = msgspec.toml.decode(printed, type=ClusterConfig)
    assert made.addresses == here.config.addresses
    assert made.cluster_id == here.config.cluster_id
    assert made.secret == here.config.secret
    assert made.secret
    by_address = format_address(here.config.addresses[here.config.node_ids[0]])
    again = command("member", "list", "--toml", "--servers", by_address).out
    assert msgspec.toml.decode(again, type=ClusterConfig).addresses == here.config.addresses


def test_nothing_is_changed_when_no_node_waits_at_the_address(command: Command, here: Cluster) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    for verb in (["add"], ["replace", here.config.node_ids[0]]):
        ran = command("member", *verb, nobody)
        assert ran.code == failures.CONFIGURATION
        assert f"no node answers at {nobody}" in ran.complaint
        assert "--join" in ran.complaint


def test_change_is_refused_with_the_reason_when_it_cannot_be_made(command: Command, here: Cluster) -> None:
    everybody = ",".join(map(str, here.config.node_ids))
    ran = command("member", "remove", everybody)
    assert ran.code == failures.NOT_EXECUTED
    assert "no voter would be left" in ran.complaint
    ran = command("member", "promote", "99")
    assert "node 99 is not a member: add it first" in ran.complaint


def test_arguments_are_refused_when_they_cannot_be_used(command: Command, here: Cluster) -> None:
    assert "is not the number of a node" in command("member", "remove", "one").complaint
    ran = command("member", "replace", "1,2", "127.0.0.1:1")
    assert ran.code == failures.CONFIGURATION
    assert "2 nodes and 1 addresses" in ran.complaint


def test_member_is_moved_when_an_operator_says_so(command: Command, here: Cluster) -> None:
    node = here.config.node_ids[-1]
    where = format_address(here.config.addresses[node])
    ran = command("member", "move", node, where)
    assert ran.code == failures.DONE
    assert ran.out == f"told: {', '.join(str(other) for other in here.config.node_ids[:-1])}\n"


def test_node_that_is_not_a_member_is_refused_when_it_is_to_go_or_to_move(
    command: Command, here: Cluster
) -> None:
    before = command("member", "list", "--json").json
    node, address = 9_999_999, format_address(here.config.addresses[here.config.node_ids[0]])
    for verb in (["remove", node], ["remove", f"{here.config.node_ids[0]},{node}"], ["move", node, address]):
        ran = command("member", *verb)
        assert ran.code == failures.CONFIGURATION, verb
        assert f"node {node} is not a member: nothing was changed; the members are " in ran.complaint
        assert ran.out == ""
    assert command("member", "list", "--json").json == before


def test_address_of_a_voter_is_refused_when_it_is_to_be_added(command: Command, here: Cluster) -> None:
    for node in here.config.node_ids:
        ran = command("member", "add", format_address(here.config.addresses[node]))
        assert ran.code == failures.CONFIGURATION
        assert f"node {node} at " in ran.complaint
        assert "is a member already, and votes: nothing was changed" in ran.complaint


def test_node_does_not_join_when_the_named_cluster_file_cannot_be_used(
    command: Command, here: Cluster, tmp_path: Path
) -> None:
    seed = format_address(here.config.addresses[here.config.node_ids[0]])
    join = ["serve", "--join", seed, "--listen", f"127.0.0.1:{free_ports(1)[0]}", "--data", "d"]
    ran = command(*join, "--cluster", "missing.toml")
    assert ran.code == failures.CONFIGURATION
    assert "no cluster file missing.toml" in ran.complaint
    other = msgspec.structs.replace(here.config, cluster_id="other")
    (tmp_path / "viewstamp.toml").write_text(other.to_toml(), encoding="utf-8")
    ran = command(*join)
    assert ran.code == failures.CONFIGURATION
    assert "the cluster file is that of 'other'" in ran.complaint


def test_serve_says_what_is_missing_when_neither_member_nor_cluster_is_named(
    command: Command, here: Cluster
) -> None:
    ran = command("serve", "--data", "d")
    assert ran.code == failures.CONFIGURATION
    assert "--node" in ran.complaint
    assert "--join" in ran.complaint
