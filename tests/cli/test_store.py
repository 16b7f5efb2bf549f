"""`viewstamp kv watch`, `history`, `txn`, `lease` against the stock machine in this process."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.services.stock import StockService


@pytest.fixture(scope="module")
def stock() -> Iterator[BlockingLocalCluster[StateMachine]]:
    with local_cluster(StockService, replicas=1) as running:
        running.leader()
        yield running


@pytest.fixture(autouse=True)
def _here(stock: BlockingLocalCluster[StateMachine], tmp_path: Path) -> None:
    stock.config.save(tmp_path / "viewstamp.toml")


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_kv_writes_is_watched_and_remembered(command: Command) -> None:
    command("kv", "put", "w/a", "one")
    command("kv", "put", "w/a", "two")
    command("kv", "delete", "w/a")
    command("kv", "put", "x", "elsewhere")
    lines = command("kv", "watch", "w/", "--after", "0", "--events", "3").out.splitlines()
    assert [line.split()[1:] for line in lines] == [
        ["put", "w/a", "one"],
        ["put", "w/a", "two"],
        ["delete", "w/a"],
    ]
    revisions = [int(line.split()[0]) for line in lines]
    assert revisions == sorted(set(revisions))
    later = command("kv", "watch", "w/", "--after", str(revisions[0]), "--events", "2", "--json").out
    told = documents(later)
    assert [each["revision"] for each in told] == revisions[1:]
    assert told[0]["events"][0]["value"] == "two"
    assert told[1]["events"] == [{"type": "delete", "key": "w/a"}]
    assert command("kv", "history", "w/a").out.splitlines() == lines
    ran = command("kv", "history", "none")
    assert (ran.code, ran.complaint) == (failures.REFUSED, "no change of none is kept")
    assert command("kv", "watch", "--after", "-5").code == failures.CONFIGURATION


def test_a_transaction_is_read_from_a_file_or_from_standard_input(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {
        "when": [{"key": "t/a", "target": "version", "operand": 0}],
        "then": [
            {"do": "put", "key": "t/a", "value": "x"},
            {"do": "txn", "then": [{"do": "put", "key": "t/b"}]},
            {"do": "get", "prefix": "t/"},
        ],
        "otherwise": [{"do": "delete", "prefix": "t/"}],
    }
    (tmp_path / "txn.json").write_text(json.dumps(whole))
    ran = command("kv", "txn", "txn.json")
    assert ran.code == failures.DONE
    done = ran.json
    assert done["succeeded"] is True
    assert [item["key"] for item in done["results"][2]["items"]] == ["t/a", "t/b"]

    class Input:
        buffer = io.BytesIO(json.dumps(whole).encode())

    monkeypatch.setattr("sys.stdin", Input())
    ran = command("kv", "txn", "-")
    assert (ran.code, ran.json["results"]) == (failures.REFUSED, [{"did": "delete", "deleted": 2}])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"then": [{"do": "shout", "key": "a"}]}',
        '{"then": [{"do": "put", "key": "a", "colour": 1}]}',
        '{"when": [{"key": "a", "target": "value", "operand": 3}]}',
        '{"when": [{"key": "a", "target": "mod", "operand": "3"}]}',
        '{"then": [{"do": "get"}]}',
        '{"then": [{"do": "txn", "then": [{"do": "txn", "then": [{"do": "txn"}]}]}]}',
    ],
)
def test_what_is_not_a_transaction_is_refused_in_one_line(
    command: Command, tmp_path: Path, text: str
) -> None:
    (tmp_path / "txn.json").write_text(text)
    ran = command("kv", "txn", "txn.json")
    assert ran.code == failures.CONFIGURATION
    assert ran.complaint


def test_a_lease_from_one_call_to_the_next(command: Command, tmp_path: Path) -> None:
    number = command("kv", "lease", "grant", "600").out.strip()
    whole = {"then": [{"do": "put", "key": "l/a", "lease": int(number)}]}
    (tmp_path / "txn.json").write_text(json.dumps(whole))
    assert command("kv", "txn", "txn.json").code == failures.DONE
    assert command("kv", "lease", "keep", number).out == "lives for 600 s\n"
    shown = command("kv", "lease", "show", number, "--json").json
    assert (shown["keys"], shown["ttl_s"]) == (["l/a"], 600)
    assert 0 < shown["left_s"] <= 600
    assert command("kv", "lease", "revoke", number).out == "revoked\n"
    assert command("kv", "get", "l/a").code == failures.REFUSED
    ran = command("kv", "lease", "keep", number)
    assert (ran.code, number in ran.complaint) == (failures.REFUSED, True)
    for bad in ("x", "1.5", "9" * 30):
        assert command("kv", "lease", "show", bad).code == failures.CONFIGURATION
    for bad in ("nan", "inf", "x"):
        assert command("kv", "lease", "grant", bad).code == failures.CONFIGURATION
    for events in ("0", "-1"):
        ran = command("kv", "watch", "--events", events)
        assert (ran.code, "give 1 or more" in ran.complaint) == (failures.CONFIGURATION, True)
    for key in ("", "k" * 5_000):
        ran = command("kv", "history", key)
        assert (ran.code, len(ran.complaint.splitlines())) == (failures.REFUSED, 1)
        assert "a key has from 1 to 4096 bytes" in ran.complaint
