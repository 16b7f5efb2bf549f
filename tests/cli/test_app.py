"""The surface: every command exists, helps on one screen, and complains in one line."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures
from viewstamp.cli.app import COMMANDS

SCREEN_LINES = 24
SCREEN_COLUMNS = 80
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
LEAVES = [
    *(name for name in COMMANDS if name not in {"kv", "journal"}),
    *(f"kv {name}" for name in ("get", "put", "delete", "range")),
    "journal dump",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_where_its_line_says(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    assert hasattr(import_module(module), attribute)


@pytest.mark.parametrize("name", ["", *LEAVES, "kv", "journal"])
def test_help_fits_a_screen(command: Command, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN_COLUMNS))
    ran = command(*name.split(), "--help")
    lines = ran.out.rstrip("\n").splitlines()
    assert ran.code == failures.DONE
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines)) <= SCREEN_COLUMNS


@pytest.mark.parametrize("name", LEAVES)
def test_command_stands_in_the_reference(name: str) -> None:
    assert f"## viewstamp {name}\n" in REFERENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["statuz"], "status"),
        (["status", "--klustr", "x"], "klustr"),
        (["kv", "get"], "kv get --help"),
        (["serve", "--node", "one", "--data", "d"], "int"),
        (["transfer", "--to", "two"], "two"),
    ],
)
def test_wrong_command_line_is_explained_in_one_line(
    command: Command, arguments: list[str], hint: str
) -> None:
    ran = command(*arguments)
    assert ran.code == failures.USAGE
    assert hint in ran.complaint
    assert "--help" in ran.complaint


def test_version_is_told(command: Command) -> None:
    assert command("--version").out.startswith("viewstamp 0.")


def test_flag_wins_over_the_environment_when_both_are_set(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIEWSTAMP_CLUSTER", "from-environment.toml")
    assert "from-environment.toml" in command("status").complaint
    assert "from-flag.toml" in command("status", "--cluster", "from-flag.toml").complaint


def test_a_bug_keeps_its_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("viewstamp.cli.app._call", break_down)
    with pytest.raises(ValueError, match="a bug"):
        command("status")


def test_interrupt_ends_a_command_quietly(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("viewstamp.cli.app._call", interrupt)
    ran = command("status")
    assert (ran.code, ran.err) == (failures.INTERRUPTED, "")


@pytest.mark.process
def test_program_complains_in_one_line_when_there_is_nothing_to_talk_to(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VIEWSTAMP_")}
    arguments = [sys.executable, "-m", "viewstamp", "status"]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path, env=clean)
    assert ran.returncode == failures.CONFIGURATION
    assert ran.stdout == ""
    assert ran.stderr.startswith("viewstamp: no cluster file viewstamp.toml: make one with `viewstamp init`")
