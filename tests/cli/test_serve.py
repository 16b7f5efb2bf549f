"""What `viewstamp serve` refuses before it starts anything; running servers are tested in tests/process."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures
from viewstamp.cli.serve import STOCK_MACHINE, configure_logging, load_machine, load_settings
from viewstamp.core.errors import ConfigurationError
from viewstamp.services.stock import StockService


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """Leave the library's logger as it was."""
    found = logging.getLogger("viewstamp")
    handlers, level = found.handlers[:], found.level
    yield found
    found.handlers[:], found.level = handlers, level


def test_stock_machine_is_the_store() -> None:
    assert load_machine(STOCK_MACHINE) is StockService


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("counter", "MODULE:CLASS"),
        (":Counter", "MODULE:CLASS"),
        ("no.such.module:Counter", "cannot import"),
        ("pathlib:Path", "subclass of viewstamp.StateMachine"),
        ("pathlib:Nothing", "subclass of viewstamp.StateMachine"),
    ],
)
def test_machine_is_refused_in_one_line_when_it_is_none(command: Command, name: str, reason: str) -> None:
    command("init")
    ran = command("serve", name, "--node", 1, "--data", "d")
    assert ran.code == failures.CONFIGURATION
    assert reason in ran.complaint


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def broken(:\n", "cannot import 'broken_app': SyntaxError: "),
        ("raise RuntimeError('no licence')\n", "cannot import 'broken_app': RuntimeError: no licence"),
        ("import no_such_thing\n", "cannot import 'broken_app': No module named 'no_such_thing'"),
    ],
)
def test_machine_is_refused_in_one_line_when_its_module_is_broken(
    command: Command, source: str, reason: str
) -> None:
    command("init")
    Path("broken_app.py").write_text(source)
    ran = command("serve", "broken_app:App", "--node", 1, "--data", "d")
    assert ran.code == failures.CONFIGURATION
    assert reason in ran.complaint


def test_machine_is_found_in_the_current_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "app_of_this_test.py").write_text(
        "import viewstamp\nclass Thing(viewstamp.StateMachine):\n    pass\n"
    )
    assert load_machine("app_of_this_test:Thing").__name__ == "Thing"


def test_stranger_is_refused_when_it_is_to_be_served(command: Command) -> None:
    command("init")
    ran = command("serve", "--node", 9, "--data", "d")
    assert (ran.code, ran.complaint) == (
        failures.CONFIGURATION,
        "node 9 is not a member: the cluster file lists 1, 2, 3",
    )


def test_flag_wins_over_the_settings_when_both_are_given(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('loop = "asyncio"\nclients_max = 7\n')
    assert load_settings(path, loop=None).loop == "asyncio"
    config = load_settings(path, loop="uvloop", data="d")
    assert (config.loop, config.clients_max, config.data) == ("uvloop", 7, "d")


@pytest.mark.parametrize(
    "text", ["unknown = 1", "clients_max = 0", 'clients_max = "7"', "= =", "loop = 'turbo'"]
)
def test_settings_are_refused_in_one_line_when_they_cannot_be_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"settings\.toml: ") as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_settings(tmp_path / "nothing.toml")


def test_event_stays_on_its_line_when_a_peer_put_escapes_into_it(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(verbose=False)
    logger.info("peer said %s", "a\nFORGED \x1b[2J")
    assert capsys.readouterr().err.endswith("INFO peer said a\\nFORGED \\x1b[2J\n")
