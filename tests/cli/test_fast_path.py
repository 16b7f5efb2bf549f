"""The quick way understands only what the long way understands, and the same by it."""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.cli.app import COMMANDS
from viewstamp.cli.fast_path import NotPlain, bind, understand
from viewstamp.cli.flags import QUICK
from viewstamp.cli.full_parser import make_app

PLAIN = [
    "status",
    "status --json",
    "status --cluster some/file.toml --timeout 2.5 --json",
    "status --timeout 3",
    "transfer",
    "transfer --to 2",
    "snapshot --node 0 --timeout 60",
    "journal dump data",
    "journal dump data --protocol bytes --json",
    "kv get key",
    "kv get key --reads stale --raw",
    "kv get --raw key",
    "kv put key value --if-version 3",
    "kv put --json key value --servers a:1,b:2",
    "kv delete key --timeout 0.5",
    "kv range",
    "kv range prefix --limit 7",
]
NOT_PLAIN = [
    "",
    "help",
    "--help",
    "kv",
    "init",
    "status --help",
    "status --jso",
    "status --json --json",
    "status --timeout",
    "status --timeout=3",
    "status --timeout -1",
    "status --timeout many",
    "status --no-json",
    "status extra",
    "transfer --to 2.5",
    "journal dump",
    "kv get",
    "kv get key another",
    "kv get key --reads dirty",
    "kv get -- key",
    "kv put key -",
]
WORDS = [
    "--json",
    "--timeout",
    "--limit",
    "--reads",
    "--raw",
    "--cluster",
    "3",
    "2.5",
    "stale",
    "-1",
    "k",
    "--",
    "",
]


def long_way(tokens: list[str]) -> tuple[list[Any], dict[str, Any]]:
    _, bound, _ = make_app().parse_args(tokens)
    return list(bound.args), dict(bound.kwargs)


def function_of(name: str) -> Callable[..., Any]:
    module, _, attribute = COMMANDS[name][0].partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    return function


@pytest.mark.parametrize("line", PLAIN)
def test_plain_line_means_the_same_both_ways(line: str) -> None:
    found = understand(line.split(), {}, COMMANDS)
    assert found is not None
    assert found[1:] == long_way(line.split())


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_line_is_left_to_the_long_way_when_it_is_not_plain(line: str) -> None:
    assert understand(line.split(), {}, COMMANDS) is None


def test_line_is_left_to_the_long_way_when_the_environment_has_a_setting() -> None:
    assert understand(["status"], {"PATH": "x"}, COMMANDS) is not None
    assert understand(["status"], {"VIEWSTAMP_TIMEOUT": "3"}, COMMANDS) is None


@given(st.lists(st.sampled_from(WORDS), max_size=5))
def test_words_mean_the_same_both_ways_when_the_quick_way_understands_them(words: list[str]) -> None:
    for name in ("kv get", "kv range"):
        try:
            found = bind(function_of(name), words)
        except NotPlain:
            continue
        assert found == long_way([*name.split(), *words])


def test_quick_commands_do_not_import_the_library_of_the_long_way(tmp_path: Path) -> None:
    modules = sorted({COMMANDS[name][0].partition(":")[0] for name in QUICK})
    program = f"import sys, {', '.join(modules)}, viewstamp.cli.app; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert (
        set(ran.stdout.split()) & {"cyclopts", "rich", "asyncio", "uvloop", "viewstamp.cli.full_parser"}
        == set()
    )
