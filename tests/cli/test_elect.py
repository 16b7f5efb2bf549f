"""`viewstamp elect`, `semaphore` and `queue` against a cluster in this process."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures
from viewstamp.cli.elect import ELECTION_VARIABLE, SEMAPHORE_VARIABLE
from viewstamp.cli.queue import ATTEMPT_VARIABLE, ID_VARIABLE, ITEM_VARIABLE, KEY_VARIABLE, QUEUE_VARIABLE
from viewstamp.cli.under_claim import NOT_FOUND, TOKEN_VARIABLE
from viewstamp.clients.recipes_blocking import BlockingRecipes
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.services.recipes.queues import BODY_BYTES_MAX
from viewstamp.services.stock import StockService

Stock = BlockingLocalCluster[StateMachine]


@pytest.fixture(scope="module")
def stock() -> Iterator[Stock]:
    with local_cluster(StockService, replicas=1) as running:
        running.leader()
        yield running


@pytest.fixture
def here(stock: Stock, tmp_path: Path) -> Stock:
    stock.config.save(tmp_path / "viewstamp.toml")
    return stock


@pytest.fixture
def recipes(stock: Stock) -> Iterator[BlockingRecipes]:
    with BlockingRecipes(stock.config, label="other") as recipes:
        yield recipes


def test_the_elected_finds_its_token_and_publishes_its_value(
    command: Command, here: Stock, tmp_path: Path, recipes: BlockingRecipes
) -> None:
    script = f'echo "${ELECTION_VARIABLE} ${TOKEN_VARIABLE}" > out; exit 7'
    assert command("elect", "e", "--ttl", "5", "--value", "here", "--", "sh", "-c", script).code == 7
    name, token = (tmp_path / "out").read_text().split()
    assert name == "e"
    with recipes.election("e") as term:
        assert term.token > int(token)
        ran = command("elect", "e", "--timeout", "0.2", "--", "touch", "ran")
    assert ran.code == failures.NOT_EXECUTED
    assert f"other is elected (token {term.token}); nothing was run" in ran.complaint
    assert not (tmp_path / "ran").exists()


def test_a_semaphore_lets_so_many_run_and_is_resized(
    command: Command, here: Stock, tmp_path: Path, recipes: BlockingRecipes
) -> None:
    script = f'echo "${SEMAPHORE_VARIABLE} ${TOKEN_VARIABLE}" > out'
    with recipes.semaphore("s", 2):
        assert command("semaphore", "s", "--permits", "2", "--", "sh", "-c", script).code == failures.DONE
        assert (tmp_path / "out").read_text().startswith("s ")
        ran = command("semaphore", "s", "--permits", "3", "--", "true")
        assert ran.code == failures.REFUSED
        assert "has the size 2, not 3" in ran.complaint
        assert command("semaphore", "s", "--resize", "1").code == failures.DONE
        ran = command("semaphore", "s", "--timeout", "0.2", "--", "true")
        assert (ran.code, "1 of 1 permits are out" in ran.complaint) == (failures.NOT_EXECUTED, True)
    assert command("semaphore", "s", "--", "true").code == failures.DONE
    assert command("semaphore", "s", "--resize", "-1").code == failures.REFUSED


def test_items_are_put_worked_on_and_listed(command: Command, here: Stock, tmp_path: Path) -> None:
    assert command("queue", "put", "q", "one", "--id", "i", "--key", "k").out == "1\n"
    ran = command("queue", "put", "q", "one", "--id", "i")
    assert (ran.out, "was put before" in ran.complaint) == ("1\n", True)
    command("queue", "put", "q", "two")
    names = (QUEUE_VARIABLE, ITEM_VARIABLE, ID_VARIABLE, KEY_VARIABLE, ATTEMPT_VARIABLE)
    script = f'echo "$(cat) {" ".join("$" + name for name in names)}" >> out'
    assert command("queue", "work", "q", "--once", "--", "sh", "-c", script).code == failures.DONE
    assert command("queue", "work", "q", "--timeout", "0.2", "--", "sh", "-c", script).code == failures.DONE
    lines = [line.split() for line in (tmp_path / "out").read_text().splitlines()]
    assert lines == [["one", "q", "1", "i", "k", "1"], ["two", "q", "2", "1"]]
    assert command("queue", "list", "q", "--json").out == ""


def test_what_fails_is_tried_again_set_aside_and_revived(
    command: Command, here: Stock, recipes: BlockingRecipes
) -> None:
    recipes.queue("bad").configure(attempts_max=2)
    command("queue", "put", "bad", "x")
    assert command("queue", "work", "bad", "--once", "--", "no-such-command").code == NOT_FOUND
    first, second = (command("queue", "work", "bad", "--once", "--", "sh", "-c", "exit 3") for _ in range(2))
    assert (first.code, first.err) == (3, "")
    assert "is a dead letter now: exit code 3" in second.complaint
    lines = command("queue", "list", "bad", "--dead").out.splitlines()
    assert lines[1].split()[1:4] == ["dead", "2", "1"]
    assert "exit code 3" in lines[1]
    document = command("queue", "list", "bad", "--json", "--revive").json
    assert (document["state"], document["attempts"]) == ("waiting", 0)


@pytest.mark.parametrize("verb", [("elect", "x"), ("semaphore", "x"), ("queue", "work", "x")])
def test_a_command_is_needed(command: Command, here: Stock, verb: tuple[str, ...]) -> None:
    ran = command(*verb)
    assert (ran.code, "write it after --" in ran.complaint) == (failures.CONFIGURATION, True)


def test_a_size_is_set_without_running_a_command(command: Command, here: Stock, tmp_path: Path) -> None:
    ran = command("semaphore", "r", "--resize", "2", "--", "touch", "ran")
    assert (ran.code, "runs nothing: leave the command out" in ran.complaint) == (
        failures.CONFIGURATION,
        True,
    )
    assert command("semaphore", "r", "--", "true").code == failures.REFUSED  # it was not made


@pytest.mark.parametrize(
    "verb",
    [
        ("queue", "put", "t", "x", "--delay", "nan"),
        ("queue", "put", "t", "x", "--delay", "inf"),
        ("queue", "put", "t", "x", "--delay", "-1"),
        ("queue", "work", "t", "--lease", "nan", "--", "true"),
        ("queue", "work", "t", "--lease", "0", "--", "true"),
        ("queue", "work", "t", "--lease", "-3", "--", "true"),
    ],
)
def test_a_time_that_cannot_be_meant_puts_and_takes_nothing(
    command: Command, here: Stock, recipes: BlockingRecipes, verb: tuple[str, ...]
) -> None:
    queue = recipes.queue("t")
    before = queue.put(b"one", id="it").number
    ran = command(*verb)
    assert (ran.code, "give seconds, from 0" in ran.complaint) == (failures.CONFIGURATION, True)
    assert len(ran.complaint.splitlines()) == 1
    (item,) = queue.items().items
    assert (item.number, item.attempts) == (before or item.number, 0)


def test_an_item_without_end_is_not_read_to_its_end(
    command: Command, here: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless:
        read_of = 0

        def read(self, size: int) -> bytes:
            Endless.read_of += size
            return b"x" * size

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Endless()))
    ran = command("queue", "put", "endless")
    assert (ran.code, "and this one has more: nothing was put" in ran.complaint) == (failures.REFUSED, True)
    assert Endless.read_of == BODY_BYTES_MAX + 1


def test_the_commands_of_the_page_do_what_it_says(command: Command, here: Stock, tmp_path: Path) -> None:
    """docs/how-to/coordinate-workers.md, as printed; a worker is told to end after one item."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "coordinate-workers.md"
    for script in ("schedule.sh", "convert.sh", "send-mail.sh"):
        (tmp_path / script).write_text('#!/bin/sh\necho "$0 $VIEWSTAMP_FENCING_TOKEN $*" >> ran\n')
        (tmp_path / script).chmod(0o755)
    lines = re.findall(
        r"^(?:echo .*\| )?(viewstamp (?:elect|semaphore|queue) .*)$", page.read_text(), re.MULTILINE
    )
    assert len(lines) == 6
    for line in lines:
        words = shlex.split(line)[1:]
        words += ["a mail"] if words[1] == "put" else []
        if words[1] == "work":
            words.insert(2, "--once")
        assert command(*words).code == failures.DONE, line
    ran = [line.split()[0] for line in (tmp_path / "ran").read_text().splitlines()]
    assert ran == ["./schedule.sh", "./convert.sh", "./send-mail.sh"]
