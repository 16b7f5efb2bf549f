"""The commands of the how-tos for operators, run as they are printed, against a cluster that lives."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Cluster, Command
from viewstamp.cli import failures

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
OPERATIONS = ("a-full-disk", "a-slow-disk", "change-a-limit", "examine-a-cluster", "watch-a-cluster")
STARTS_A_NODE = "viewstamp serve"
"""Such a line is checked by tests/deploy, which start nothing."""


def _commands(page: str) -> list[str]:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("viewstamp ")]
    return [line for line in lines if not line.startswith(STARTS_A_NODE)]


@pytest.mark.parametrize("page", OPERATIONS)
def test_every_command_of_the_page_does_what_it_says(
    command: Command, here: Cluster, tmp_path: Path, page: str
) -> None:
    (tmp_path / "prod.toml").write_bytes((tmp_path / "viewstamp.toml").read_bytes())
    command("kv", "put", "KEY", "value")
    lines = _commands(page)
    assert lines
    for line in lines:
        ran = command(*shlex.split(line)[1:])
        assert ran.code == failures.DONE, (line, ran)
        assert ran.out, line
    here.leader()


@pytest.mark.parametrize("page", OPERATIONS)
def test_the_page_says_situation_commands_what_is_seen_and_what_if_not(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    heads = re.findall(r"^\*\*([A-Z][^*]*)\*\*", text, re.MULTILINE)
    assert heads[0] == "Situation."
    assert any(head.startswith(("What you do", "What to do")) for head in heads)
    assert any(head.startswith("What you see") for head in heads)
    assert any(head.startswith("What if") for head in heads)
