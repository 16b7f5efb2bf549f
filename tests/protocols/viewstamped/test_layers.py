"""The three layers of lab 6, RSM over config over Paxos: who may call whom (docs/requirements.md#r63)."""

import ast
from pathlib import Path

import pytest

PACKAGE = "viewstamp.protocols.viewstamped."
FOLDER = Path(__file__).parents[3] / "src" / "viewstamp" / "protocols" / "viewstamped"
CONFIG = {"views", "heartbeats", "proposer", "joining"}
RSM = {"role", "primary", "backup", "reads", "state_transfer"}
ABOVE_ALL = {"core", "status", "leadership_transfer", "changes"}


def calls(module: str) -> set[str]:
    """Return the modules of the package that this one imports."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    imports = (node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {name.removeprefix(PACKAGE) for name in imports if name.startswith(PACKAGE)}


def test_paxos_knows_neither_config_nor_rsm() -> None:
    assert calls("paxos") == {"membership", "messages"}


@pytest.mark.parametrize("module", sorted(CONFIG))
def test_config_makes_no_call_to_the_rsm_layer(module: str) -> None:
    """An up-call could find the layer above in the middle of its own step: here there are none."""
    assert calls(module) & (RSM | ABOVE_ALL) == set()


@pytest.mark.parametrize("module", sorted(RSM))
def test_the_rsm_layer_asks_config_for_views_only(module: str) -> None:
    assert calls(module) & (CONFIG | ABOVE_ALL | {"paxos"}) <= {"views"}
