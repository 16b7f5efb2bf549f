"""The mutation suite itself: no mutant rots, the sentinels behave, and a quick selection dies."""

from pathlib import Path

import pytest
from mutants.catalogue import ROOT, CatalogueError, Mutant, Planted, load, load_all, sabotage
from mutants.detect import Death, run_detectors
from mutants.table import score, table

MUTANTS = load_all()
QUICK = [planted for planted in MUTANTS if planted.mutant.quick]
SENTINELS = (
    "raft/r15-truncate-always",
    "raft/r27-read-before-own-commit",
    "viewstamped/v22-any-member-may-lead",
    "viewstamped/v30-one-backup-is-enough",
)


@pytest.mark.parametrize("planted", MUTANTS, ids=lambda planted: planted.name)
def test_anchor_matches_once_and_detectors_exist(planted: Planted) -> None:
    sabotage((ROOT / planted.mutant.file).read_text(encoding="utf-8"), planted)
    for test in planted.mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_quick_selection_has_at_least_fifteen() -> None:
    assert len(QUICK) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("planted", QUICK, ids=lambda planted: planted.name)
def test_quick_mutant_is_killed(planted: Planted) -> None:
    assert run_detectors(planted).fate == "killed"


@pytest.mark.slow
@pytest.mark.parametrize("name", SENTINELS)
def test_sentinel_is_killed_when_the_simulator_is_alone(name: str) -> None:
    (planted,) = [planted for planted in MUTANTS if planted.name == name]
    death = run_detectors(planted, thorough=True)
    assert ", seed " in death.simulator, death


@pytest.mark.slow
def test_equivalent_mutant_survives_everything() -> None:
    (planted,) = [planted for planted in MUTANTS if planted.name == "raft/s3-records-in-other-order"]
    death = run_detectors(planted, thorough=True)
    assert (death.fate, death.simulator) == ("survived", "survived")


def example(anchor: str = "old", replacement: str = "new") -> Planted:
    return Planted("raft/example", Mutant("R0", "title", "file.py", anchor, replacement, "raft", True, []))


@pytest.mark.parametrize("source", ["", "old and old"])
def test_anchor_is_refused_when_it_does_not_match_exactly_once(source: str) -> None:
    with pytest.raises(CatalogueError, match="not once"):
        sabotage(source, example())


def test_replacement_is_refused_when_it_changes_nothing() -> None:
    with pytest.raises(CatalogueError, match="is the anchor"):
        sabotage("old", example(replacement="old"))


def test_file_is_refused_when_a_survivor_is_not_explained(tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    file.write_text(
        'row = "R0"\ntitle = "t"\nfile = "f"\nanchor = "a"\nreplacement = "b"\nprotocol = "raft"\n'
        'safety_critical = true\nexpected = []\nmust = "survive"\n'
    )
    with pytest.raises(CatalogueError, match="why"):
        load(file)


def test_score_counts_only_named_deaths() -> None:
    mutants = [example() for _ in range(4)]
    fates = ["killed", "survived", "crashed", "timed out"]
    deaths = [Death("raft/example", fate, "", None, 1.0) for fate in fates]  # type: ignore[arg-type]
    assert score(mutants, deaths) == (0.25, 0.25, True)
    page = table(mutants, deaths)
    assert page.count("NOT EXPLAINED") == 3
    assert "4 mutants: **25.0%** killed" in page
