"""`viewstamp kv` against a cluster in this process."""

import io
from typing import Any

import pytest

from tests.cli.conftest import Cluster, Command
from viewstamp.cli import failures
from viewstamp.runtime.addresses import format_address


def test_value_and_version_are_told_when_a_key_was_written(command: Command, here: Cluster) -> None:
    assert command("kv", "put", "told", "hello").out == "version 1\n"
    assert command("kv", "get", "told").out == "hello  (version 1)\n"
    assert command("kv", "get", "told", "--raw").out == "hello"
    assert command("kv", "get", "told", "--reads", "stale").code in {failures.DONE, failures.REFUSED}
    assert command("kv", "get", "told", "--json").json == {"key": "told", "value": "hello", "version": 1}


def test_missing_key_is_told_by_line_and_code(command: Command, here: Cluster) -> None:
    ran = command("kv", "get", "nowhere")
    assert (ran.code, ran.complaint) == (failures.REFUSED, "there is no key 'nowhere'")


def test_write_is_refused_when_the_version_is_another(command: Command, here: Cluster) -> None:
    assert command("kv", "put", "guarded", "a", "--if-version", "0").code == failures.DONE
    ran = command("kv", "put", "guarded", "b", "--if-version", "7")
    assert ran.code == failures.REFUSED
    assert ran.complaint == "'guarded' has version 1, not 7"
    assert command("kv", "put", "guarded", "b", "--if-version", "1", "--json").json["version"] == 2


def test_deletion_tells_whether_there_was_a_key(command: Command, here: Cluster) -> None:
    command("kv", "put", "doomed", "x")
    assert command("kv", "delete", "doomed", "--if-version", "9").code == failures.REFUSED
    assert command("kv", "delete", "doomed").code == failures.DONE
    assert command("kv", "delete", "doomed").code == failures.REFUSED


def test_range_is_ordered_and_limited(command: Command, here: Cluster) -> None:
    for key in ("r/2", "r/1", "r/3", "s"):
        command("kv", "put", key, key)
    lines = command("kv", "range", "r/").out.splitlines()
    assert [line.split()[0] for line in lines] == ["r/1", "r/2", "r/3"]
    assert len(command("kv", "range", "r/", "--limit", "2", "--json").out.splitlines()) == 2
    assert len(command("kv", "range", "r/", "--limit", "9" * 30).out.splitlines()) == 3
    assert command("kv", "range", "--limit", "-1").complaint == "--limit -1: give 1 or more"


def test_control_characters_do_not_reach_the_terminal(command: Command, here: Cluster) -> None:
    command("kv", "put", "c\x1b[2J\n", "v\x07")
    assert command("kv", "range", "c\x1b").out.startswith("c\\x1b[2J\\n  v\\x07  (version ")


def test_bytes_come_back_when_they_are_no_text(
    command: Command, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Input:
        buffer = io.BytesIO(b"\xff\x00\n")

    monkeypatch.setattr("sys.stdin", Input())
    assert command("kv", "put", "binary", "-").code == failures.DONE
    assert command("kv", "get", "binary").out.startswith("\\xff\\x00\\x0a  (version ")
    document: dict[str, Any] = command("kv", "get", "binary", "--json").json
    assert document | {"version": 0} == {"key": "binary", "value_base64": "/wAK", "version": 0}


def test_servers_are_enough_when_there_is_no_file(command: Command, cluster: Cluster) -> None:
    address = format_address(next(iter(cluster.config.addresses.values())))
    assert command("kv", "put", "by-address", "1", "--servers", address).code == failures.DONE


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["put", "k" * 4097, "v"], failures.REFUSED, "a key has from 1 to 4096 bytes"),
        (["put", "", "v"], failures.REFUSED, "a key has from 1 to 4096 bytes"),
        (["put", "k", "v" * 1_000_001], failures.REFUSED, "a value has up to 1000000 bytes"),
        (["put", "\udcff", "v"], failures.CONFIGURATION, "is not UTF-8 text"),
        (["put", "k", "v", "--timeout", "0"], failures.CONFIGURATION, "--timeout 0.0"),
        (["get", "k", "--timeout", "nan"], failures.CONFIGURATION, "--timeout nan"),
        (["get", "k", "--servers", "nowhere"], failures.CONFIGURATION, "HOST:PORT"),
        (["put", "k", "v", "--if-version", "-1"], failures.REFUSED, "k"),
        (["put", "k", "v", "--if-version", "9" * 30], failures.CONFIGURATION, "no key has a version over"),
        (["delete", "k", "--if-version", "-" + "9" * 30], failures.CONFIGURATION, "no key has a version"),
        (["get", "k", "--servers", "host:" + "9" * 5_000], failures.CONFIGURATION, "HOST:PORT"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    command: Command, here: Cluster, arguments: list[str], code: int, reason: str
) -> None:
    ran = command("kv", *arguments)
    assert (ran.code, reason in ran.complaint) == (code, True), ran


def test_silence_is_not_executed_and_names_who_is_silent(command: Command) -> None:
    command("init", "--members", "127.0.0.1:1,127.0.0.1:2")
    ran = command("kv", "put", "k", "v", "--timeout", "0.3")
    assert ran.code == failures.NOT_EXECUTED
    assert "nodes 1, 2" in ran.complaint
