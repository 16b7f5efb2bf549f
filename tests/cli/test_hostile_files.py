"""Files that a command is given: hostile histories are bad input, and nothing is waited for."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from viewstamp.checker.history import DEPTH_MAX, HistoryError, parse_line
from viewstamp.cli import failures
from viewstamp.cli.check import BAD_INPUT, VIOLATION, check
from viewstamp.cli.serve import load_machine
from viewstamp.core.errors import ConfigurationError

LINE = (
    '{"client": 1, "call": 0, "return": 5, "op": "get", "key": "k", "outcome": "ok", '
    '"args": %s, "result": %s}'
)
DEPTHS = [DEPTH_MAX + 1, 300, 900, 1_000, 5_000, 150_000]


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_history_with_deep_values_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], depth: int, opening: str, closing: str
) -> None:
    deep = nested(depth, opening, closing)
    for args, result in ((f"[{deep}]", "null"), ("[]", deep)):
        file = tmp_path / "deep.jsonl"
        file.write_text(LINE % (args, result))
        for model in ("kv", "register", "lock", "counter"):
            assert check(file, model=model) == BAD_INPUT
            assert "nested too deeply" in capsys.readouterr().err


def test_values_are_read_down_to_the_limit() -> None:
    depth = DEPTH_MAX - 2
    parse_line((LINE % ("[]", nested(depth, "[", "]"))).encode())
    with pytest.raises(HistoryError, match="more than"):
        parse_line((LINE % ("[]", nested(DEPTH_MAX + 1, "[", "]"))).encode())


HOSTILE = [
    LINE % ("[]", "[1, 2]"),
    LINE % ('[{"a": 1}, null, "x", 1e300]', '"x"'),
    LINE.replace('"get"', '"set"') % ("[]", "1"),
    LINE.replace('"get"', '"set"') % ("[[]]", '{"a": {}}'),
    LINE.replace('"get"', '"range"') % ("[1, 2, 3, 4, 5]", "[[]]"),
    LINE.replace('"k"', "[[1]]") % ("[]", "null"),
    LINE.replace('"k"', '{"a": [1]}') % ("[]", "null"),
    LINE.replace('"call": 0', f'"call": {"9" * 30}') % ("[]", "null"),
    LINE.replace('"get"', '"no such"') % ("[]", "null"),
    LINE.replace('"ok"', '"raised"') % ("[]", "null"),
    "\x00",
    "\xff\xfe",
    "[" * 2_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_history_ends_in_a_verdict_or_as_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "hostile.jsonl"
    file.write_text(text, encoding="latin-1")
    for model in ("kv", "register", "lock", "counter"):
        code = check(file, model=model)
        captured = capsys.readouterr()
        if code == BAD_INPUT:
            assert captured.err.count("\n") == 1
            assert captured.err.endswith("nothing was judged\n")
        else:
            assert code == VIOLATION or captured.out


def test_what_a_model_raises_is_not_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*_: object, **__: object) -> None:
        raise RecursionError("\x1b[2J maximum depth")

    monkeypatch.setattr("viewstamp.cli.check.judge", raising)
    file = tmp_path / "one.jsonl"
    file.write_text(LINE % ("[]", "null"))
    assert check(file) == BAD_INPUT
    assert "RecursionError: \\x1b[2J maximum depth; nothing was judged" in capsys.readouterr().err


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero"])
def test_a_file_that_has_no_end_is_refused_at_once(command: Command, tmp_path: Path, kind: str) -> None:
    path = Path(kind)
    if kind == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
    for arguments in (
        ("status", "--cluster", path),
        ("serve", "--cluster", path, "--node", "1", "--data", "d"),
        ("journal", "skip", "d", "--at", "1.1", "--cluster", path),
    ):
        ran = command(*arguments)
        assert ran.code == failures.CONFIGURATION, arguments
        assert f"cannot read {path}: it is not a regular file" in ran.complaint
    command("init")
    settings = command("serve", "--node", "1", "--data", "d", "--settings", path)
    assert settings.code == failures.CONFIGURATION
    assert "it is not a regular file" in settings.complaint
    assert check(path) == BAD_INPUT
    ledger = command("sim", "--seeds", "new", "--ledger", path)
    assert ledger.code == BAD_INPUT


def test_a_history_is_read_from_standard_input(tmp_path: Path) -> None:
    line = LINE % ("[]", "null")
    ran = subprocess.run(
        [sys.executable, "-m", "viewstamp", "check", "/dev/stdin"],
        input=line,
        text=True,
        capture_output=True,
        check=False,
    )
    assert "1 operation" in ran.stdout, ran.stderr


SHADOW = "raise SystemExit('a file of the current directory was run')\n"
APP = "import colorsys\nimport viewstamp\n\n\nclass Thing(viewstamp.StateMachine):\n    total: int = 0\n"


def test_modules_here_do_not_take_the_place_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    (tmp_path / "colorsys.py").write_text(SHADOW)
    (tmp_path / "app_beside_shadows.py").write_text(APP)
    assert load_machine("app_beside_shadows:Thing").__name__ == "Thing"
    with pytest.raises(ConfigurationError, match=r"colorsys\.py\) is not a subclass"):
        load_machine("colorsys:Thing")


SCRIPT = "import sys\nfrom viewstamp.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
"""What an installer makes of the entry point."""
BOARD = """from viewstamp import StateMachine, command


class Board(StateMachine):
    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total
"""


@pytest.fixture
def hostile_directory(tmp_path: Path) -> Path:
    """Return a directory with a file for each module that a command may import and that is installed."""
    here = tmp_path / "hostile"
    here.mkdir()
    for name in (*sys.stdlib_module_names, "cyclopts", "msgspec", "uvloop", "viewstamp", "xxhash"):
        if find_spec(name) is not None:
            (here / f"{name}.py").write_text(SHADOW)
    (here / "app.py").write_text(BOARD)
    return here


@pytest.mark.parametrize("way", ["script", "-P -m"])
@pytest.mark.parametrize(
    "command",
    [
        ["--version"],
        ["init"],
        ["sim", "--seed", "1", "--workload", "app:Board"],  # and once more in another process
        ["sim", "--seeds", "1..2", "--jobs", "2", "--workload", "app:Board"],
    ],
)
def test_nothing_here_is_imported_by_a_command(hostile_directory: Path, way: str, command: list[str]) -> None:
    script = hostile_directory.parent / "bin" / "viewstamp"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    start = [str(script)] if way == "script" else [*way.split(), "viewstamp"]
    ran = subprocess.run(
        [sys.executable, *start, *command], cwd=hostile_directory, capture_output=True, text=True, check=False
    )
    assert "a file of the current directory was run" not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.returncode == failures.DONE, ran.stdout + ran.stderr


def test_nothing_here_is_imported_by_a_command_that_runs_as_a_module(tmp_path: Path) -> None:
    for name in ("cyclopts", "tomllib", "uvloop", "xxhash"):
        (tmp_path / f"{name}.py").write_text(SHADOW)
    ran = subprocess.run(
        [sys.executable, "-m", "viewstamp", "init"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == failures.DONE, ran.stderr
