"""`viewstamp lock` and `viewstamp locks` against a cluster in this process."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures
from viewstamp.cli.lock import NAME_VARIABLE
from viewstamp.cli.under_claim import CANNOT_RUN, NOT_FOUND, TOKEN_VARIABLE
from viewstamp.clients.lock_driver import HeldLock
from viewstamp.clients.locks_blocking import BlockingLockClient
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.services.locks import NAME_BYTES_MAX
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


def test_the_command_finds_its_token_in_its_environment(
    command: Command, here: Stock, tmp_path: Path
) -> None:
    script = f'echo "${NAME_VARIABLE} ${TOKEN_VARIABLE}" >> out'
    for _ in range(2):
        ran = command("lock", "mine", "--", "sh", "-c", script)
        assert (ran.code, ran.err) == (failures.DONE, "")
    (name, first), (_, second) = (line.split() for line in (tmp_path / "out").read_text().splitlines())
    assert name == "mine"
    assert 0 < int(first) < int(second)
    assert command("locks").out == "lock  token  waiting  held by\n", "and it is given back"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_code_is_passed_on(command: Command, here: Stock, script: str, code: int) -> None:
    assert command("lock", "mine", "--timeout", "20", "--", "sh", "-c", script).code == code


def test_a_command_that_cannot_run_is_told_as_shells_do(
    command: Command, here: Stock, tmp_path: Path
) -> None:
    ran = command("lock", "mine", "--", "no-such-command")
    assert (ran.code, ran.complaint) == (NOT_FOUND, "no such command: no-such-command; nothing was run")
    (tmp_path / "plain").write_text("text")
    ran = command("lock", "mine", "--", "./plain")
    assert ran.code == CANNOT_RUN
    assert ran.complaint.startswith("cannot run ./plain: ")
    assert command("locks", "--json").out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), failures.USAGE, "name"),
        (("mine",), failures.CONFIGURATION, "write it after --"),
        (("mine", "--timeout", "0", "--", "true"), failures.CONFIGURATION, "--timeout"),
        (("mine", "--timeout", "soon", "--", "true"), failures.USAGE, "soon"),
        (("mine", "--frob", "--", "true"), failures.USAGE, "frob"),
        (("", "--", "true"), failures.REFUSED, "from 1 to"),
        (("\udcff", "--", "true"), failures.REFUSED, "lone surrogate; nothing was run"),
        (("x" * (NAME_BYTES_MAX + 1), "--", "true"), failures.REFUSED, "nothing was run"),
    ],
)
def test_wrong_arguments_are_refused_by_one_line(
    command: Command, here: Stock, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = command("lock", *arguments)
    assert ran.code == code
    assert words.lower() in ran.complaint.lower()


def test_the_holder_is_named_when_the_lock_is_not_acquired_in_time(command: Command, here: Stock) -> None:
    with BlockingLockClient(here.config, label="night job\x1b") as locks, locks.hold("mine") as held:
        ran = command("lock", "mine", "--timeout", "0.2", "--", "touch", "ran")
        assert ran.code == failures.NOT_EXECUTED
        assert ran.complaint == (
            "lock 'mine' was not acquired within 0.2 s: "
            f"held by night job\\x1b (token {held.token}); nothing was run"
        )
        shown = command("locks", "mi").out.splitlines()
        assert shown[1].split() == ["mine", str(held.token), "0", "night", "job\\x1b"]
        document = command("locks", "mi", "--json").json
        assert (document["lock"], document["token"], document["label"]) == (
            "mine",
            held.token,
            "night job\x1b",
        )
    assert not Path("ran").exists()


def test_many_locks_are_listed_page_by_page(
    command: Command, here: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viewstamp.cli.lock._PAGE", 2)
    with BlockingLockClient(here.config) as locks:
        for number in range(5):
            locks.acquire(f"many {number}").release()
        lines = command("locks", "many ").out.splitlines()[1:]
    assert [line.split()[1] for line in lines] == ["0", "1", "2", "3", "4"]
    assert all("client " in line for line in lines)
    assert "is not UTF-8 text" in command("locks", "\udcff").complaint


def test_nothing_is_run_when_no_server_answers(command: Command) -> None:
    ran = command("lock", "mine", "--servers", "127.0.0.1:1", "--timeout", "0.2", "--", "true")
    assert ran.code == failures.NOT_EXECUTED
    assert "no server answered" in ran.complaint


def test_whoever_waits_is_told_by_whom_the_lock_is_held(
    command: Command, here: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viewstamp.cli.under_claim._NOTE_AFTER_S", 0.05)
    with BlockingLockClient(here.config, label="night job") as locks, locks.hold("mine") as held:
        ran = command("lock", "mine", "--timeout", "0.5", "--", "true")
    assert ran.err.splitlines()[0] == (
        f"viewstamp: waiting for the lock 'mine': held by night job (token {held.token})"
    )


def test_a_signal_is_passed_on_to_the_command(command: Command, here: Stock) -> None:
    script = 'trap "exit 9" USR1; kill -USR1 $PPID; while :; do sleep 0.02; done'
    assert command("lock", "mine", "--", "sh", "-c", script).code == 9


def test_a_signal_ends_the_wait(command: Command, here: Stock) -> None:
    with BlockingLockClient(here.config) as locks, locks.hold("mine"):

        def interrupt() -> None:
            while not locks.stat("mine").waiters:
                pass
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=interrupt)
        thread.start()
        ran = command("lock", "mine", "--", "touch", "ran")
        thread.join()
        assert (ran.code, ran.err) == (128 + signal.SIGTERM, "")
        assert locks.stat("mine").waiters == 0
    assert not Path("ran").exists()


def stand(monkeypatch: pytest.MonkeyPatch, *standings: str, then: Path | None = None) -> None:
    """Let the lock's standing be these, one after the other; at the last one touch a file."""
    left = list(standings)

    def standing(_: HeldLock) -> str:
        if len(left) > 1:
            return left.pop(0)
        if then is not None:
            then.touch()
        return left[0]

    monkeypatch.setattr("viewstamp.cli.under_claim._LOOK_S", 0.02)
    monkeypatch.setattr(HeldLock, "standing", property(standing))


def test_what_becomes_of_the_lock_is_told_while_the_command_goes_on(
    command: Command, here: Stock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    each = [one for one in ("held", "doubtful", "held", "lost") for _ in range(2)]
    stand(monkeypatch, *each, then=tmp_path / "gate")
    script = "while [ ! -e gate ]; do sleep 0.02; done; exit 6"
    ran = command("lock", "mine", "--on-loss", "warn", "--", "sh", "-c", script)
    assert ran.code == 6
    assert ran.err.splitlines() == [
        "viewstamp: the lock 'mine' is not confirmed: another may hold it; the command goes on",
        "viewstamp: the cluster answers again: the lock 'mine' is still held",
        "viewstamp: the lock 'mine' is lost, and another may hold it; the command goes on",
    ]


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_the_command_is_ended_when_another_may_hold_the_lock(
    command: Command, here: Stock, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr("viewstamp.cli.under_claim._END_WITHIN_S", 0.1)
    stand(monkeypatch, "held", "held", "lost")
    ran = command("lock", "mine", "--", "sh", "-c", f"{trap}for i in $(seq 500); do sleep 0.02; done")
    assert ran.code == failures.LOCK_LOST
    assert ran.complaint == "the lock 'mine' is lost, and another may hold it; ending the command"
