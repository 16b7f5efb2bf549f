"""The score, and the table that is published."""

from mutants.catalogue import Planted
from mutants.detect import Death

_HEAD = """# Mutation score

Written by `make mutants`. Each line is one deliberate bug, planted in a copy of the source. The detectors
run on it in this order: the scripted tests that its file names, then simulator seeds 1, 2, 3, ... with
every invariant on. *Killed* means that a named invariant or a scripted test failed; a crash or a time-out
without the name of a check does not count. All detectors must pass on the source as it is. The files are in
`mutants/`. The last column says what random seeds find without any script: rare bugs need the script, and an
invariant is worth what it kills.
"""


def behaves(planted: Planted, death: Death) -> bool:
    """Return whether the mutant ended as its file asks for."""
    return (death.fate == "killed") == (planted.mutant.must == "die")


def score(mutants: list[Planted], deaths: list[Death]) -> tuple[float, float, bool]:
    """Return the share killed of all, of the safety-critical, and whether what must survive does.

    Mutants that must survive do not count in the shares.
    """
    pairs = [(p, d) for p, d in zip(mutants, deaths, strict=True) if p.mutant.must == "die"]
    critical = [(p, d) for p, d in pairs if p.mutant.safety_critical]
    survivors_survive = all(
        behaves(p, d) for p, d in zip(mutants, deaths, strict=True) if p.mutant.must == "survive"
    )
    return _share(pairs), _share(critical), survivors_survive


def _share(pairs: list[tuple[Planted, Death]]) -> float:
    return sum(death.fate == "killed" for _, death in pairs) / len(pairs) if pairs else 1.0


def table(mutants: list[Planted], deaths: list[Death]) -> str:
    """Return the page."""
    total, critical, survivors_survive = score(mutants, deaths)
    counted = sum(planted.mutant.must == "die" for planted in mutants)
    lines = [
        _HEAD,
        f"{counted} mutants: **{total:.1%}** killed; of the safety-critical **{critical:.1%}**.",
        f"Equivalent mutants, which must survive: {'they do' if survivors_survive else 'NOT ALL DO'}.",
        "",
        "| row | sabotage | critical | fate | first killer | seed | seconds | simulator alone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(p, d) for p, d in zip(mutants, deaths, strict=True)]
    remarks = [(p, d) for p, d in zip(mutants, deaths, strict=True) if d.fate != "killed" or p.mutant.why]
    lines += ["", "## Remarks and survivors", ""]
    lines += [
        f"- **{p.mutant.row}** {p.mutant.title} ({d.fate}): {p.mutant.why or 'NOT EXPLAINED'}"
        for p, d in remarks
    ]
    return "\n".join(lines) + "\n"


def _line(planted: Planted, death: Death) -> str:
    mutant = planted.mutant
    cells = [
        mutant.row,
        mutant.title,
        "yes" if mutant.safety_critical else "",
        death.fate,
        death.killer.removeprefix("tests/").replace("|", " ")[:110] or "-",
        "-" if death.seed is None else str(death.seed),
        str(death.seconds),
        death.simulator or "-",
    ]
    return f"| {' | '.join(cells)} |"
