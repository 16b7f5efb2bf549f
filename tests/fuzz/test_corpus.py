"""Every target on every input of the committed corpus, without atheris."""

from itertools import islice
from pathlib import Path

import pytest
from fuzz.ledger import Ledger
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
FROM_THE_GRAMMAR = 30
INPUT_BYTES_MAX = 1 << 13


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_withstands_its_corpus(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs, "make fuzz keeps at least one input of each target"
    for path in inputs:
        TARGETS[name].run(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_withstands_the_grammar(name: str) -> None:
    for data in islice(TARGETS[name].seeds(7), FROM_THE_GRAMMAR):
        TARGETS[name].run(data)
        TARGETS[name].run(data[: len(data) // 2])


def test_the_corpus_is_small_and_belongs_to_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    for path in CORPUS.rglob("*"):
        assert path.is_dir() or path.stat().st_size <= INPUT_BYTES_MAX, path


def test_the_ledger_adds_up(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.md")
    for name, inputs, findings in (("a", 1_000, 1), ("b", 5, 0), ("a", 234, 0)):
        ledger.add(name, inputs, findings)
    assert ledger.rows() == {"a": (1_234, 1), "b": (5, 0)}
    assert "In total 1,239 inputs." in (tmp_path / "ledger.md").read_text()
