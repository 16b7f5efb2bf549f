"""What a failure says: a story in words, the first bad call, one command, and a drawing. At most 40 lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from viewstamp.checker.drawing import draw_html
from viewstamp.checker.history import Operation
from viewstamp.machine.rules import ADDRESS
from viewstamp.sim.run.finished import FinishedRun
from viewstamp.sim.run.plan import RunPlan
from viewstamp.testing.equal_runs import Difference
from viewstamp.testing.examination import Failure
from viewstamp.testing.steps import Step

LINES_MAX: Final = 40
_COLUMNS_MAX: Final = 160
_STORY_MAX: Final = 22
_FINDINGS_MAX: Final = 12
FOLDER: Final = ".viewstamp"
_TOLD: Final = frozenset({
    "crash", "wipe", "pause", "partition", "one-way partition", "heal", "clog", "swizzle", "start", "bit rot",
    "misdirected write to come", "storage failed", "restore", "transfer", "story", "role", "jump", "died",
})  # fmt: skip
"""Kinds of events that are a part of a story."""


class SeedFile(msgspec.Struct, frozen=True):
    """All that is needed to show a failure again."""

    machine: str
    plan: RunPlan | None = None
    seed: int = 0
    drawn: int = 0
    kept: tuple[int, ...] = ()
    """Of equal runs: the places of the calls that are kept."""


def report(failure: Failure, folder: Path) -> str:
    """Return a failure as text for people; write the seed file and the drawing into the folder."""
    lines = list(_lines(failure, folder))
    if len(lines) > LINES_MAX:
        lines = [*lines[: LINES_MAX - 3], "  ...", *lines[-2:]]
    return "\n".join(_cut(line) for line in lines)


def _cut(line: str) -> str:
    return line if len(line) <= _COLUMNS_MAX else f"{line[: _COLUMNS_MAX - 3]}..."


def _lines(failure: Failure, folder: Path) -> Iterator[str]:
    yield f"{failure.machine}: {failure.name}"
    if failure.findings:
        yield from _of_source(failure)
        return
    if failure.difference is not None:
        yield from _of_difference(failure, failure.difference, folder)
    elif failure.run is not None and failure.plan is not None:
        yield from _of_run(failure, failure.run, failure.plan, folder)
    else:
        yield f"  {failure.text}"


def _of_source(failure: Failure) -> Iterator[str]:
    for finding in failure.findings[:_FINDINGS_MAX]:
        yield f"  {_near(finding.file)}:{finding.line}: {finding.rule}: {finding.where}"
        yield f"    it {finding.text}"
        yield f"    instead: {finding.rule.instead}"
    if len(failure.findings) > _FINDINGS_MAX:
        yield f"  and {len(failure.findings) - _FINDINGS_MAX} more"
    code = failure.findings[0].rule.code
    yield f"  a comment `# viewstamp: allow {code} REASON` on the line allows it"
    yield f"  the rule: {ADDRESS}#{code.lower()}"
    yield f"replay: viewstamp lint {failure.machine}"


def _near(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else file


# Equal runs


def _of_difference(failure: Failure, found: Difference, folder: Path) -> Iterator[str]:
    contradiction = found.contradiction
    yield f"  {contradiction.text}"
    if contradiction.line:
        yield f"  at {_near(contradiction.file)}:{contradiction.line}"
    yield f"  instead: {found.rule.instead}"
    yield f"the fewest calls that show it (seed {found.seed}):"
    first = max(0, len(found.steps) - _STORY_MAX)
    if first:
        yield f"  ... {first} calls before"
    for number, step in enumerate(found.steps[first:], first):
        yield f"  {number + 1}. {step}{'   <- the first bad call' if number == contradiction.at else ''}"
    seed = SeedFile(failure.machine, None, found.seed, found.drawn, found.kept)
    yield f"replay: {write_seed_file(seed, folder)}"
    history = operations_of(found.steps)
    marked = history[contradiction.at : contradiction.at + 1]
    yield f"drawing: {_draw(failure, history, marked, folder, found.seed)}"


def operations_of(steps: Sequence[Step]) -> list[Operation]:
    """Return calls one after the other as a history, for a drawing."""
    return [
        Operation(
            f"client {step.client_name}",
            2 * place,
            2 * place + 1,
            step.method or "session ends",
            None,
            step.arguments,
        )
        for place, step in enumerate(steps)
    ]


# Disasters


def _of_run(failure: Failure, run: FinishedRun, plan: RunPlan, folder: Path) -> Iterator[str]:
    violation = run.report.violation
    assert violation is not None
    text = [line for line in failure.text.splitlines() if line.strip()]
    yield from (f"  {line.strip()}" for line in text[:8])
    rule = _rule_for(violation.name)
    if rule:
        yield f"  {rule}"
    bad = _bad_call(run.history, text)
    yield f"the story, made small (seed {plan.seed}, {plan.protocol}, {_nodes(run)} nodes):"
    yield from _story(run, bad)
    written = write_seed_file(SeedFile(failure.machine, plan), folder)
    yield f"replay: {failure.replay or written}"
    drawn = _around(run.history, bad)
    yield f"drawing: {_draw(failure, drawn, [bad] if bad else [], folder, plan.seed)}"


def _rule_for(name: str) -> str:
    return {
        "I28 BackupPrefix": "two replicas differ after the same commands",
        "I33 SnapshotWhole": "a snapshot does not hold the whole state",
        "I13 SnapshotEquiv": "a replica that started from a snapshot differs from the others",
        "I17 Linearizable": "the cluster answered what the class alone would not have answered",
        "I22 Deterministic": "the same seed gave another run in a process with other hashes",
    }.get(name, "")


def _nodes(run: FinishedRun) -> int:
    return run.report.plan.nodes or len({event["node"] for event in run.events if event["node"] >= 0})


def _bad_call(history: Sequence[Operation], text: Sequence[str]) -> Operation | None:
    """Return the call that cannot be explained, or else the last one that was answered."""
    marked = next((line for line in text if "<- cannot be explained" in line), "")
    for operation in history:
        if marked and str(operation) in marked:
            return operation
    answered = [operation for operation in history if operation.answered]
    return answered[-1] if answered else None


def _story(run: FinishedRun, bad: Operation | None) -> Iterator[str]:
    told = [(event["at_us"], text) for event in run.events if (text := _event(event))]
    last_us = run.report.violation.at_us if run.report.violation else 0
    for operation in run.history:
        mark = "   <- the first bad call" if operation is bad else ""
        who = operation.caller.removeprefix("-")
        told.append((operation.returned or operation.call, f"client {who}: {operation}{mark}"))
    told = sorted((moment, text) for moment, text in told if moment <= last_us)
    kept = told[-_STORY_MAX:]
    if len(told) > len(kept):
        yield f"  ... {len(told) - len(kept)} events before"
    bad_line = next((line for line in told if "<- the first bad call" in line[1]), None)
    if bad_line is not None and bad_line not in kept:
        yield f"  {bad_line[0] / 1e6:.3f} s  {bad_line[1]}"
    for moment, text in kept:
        yield f"  {moment / 1e6:.3f} s  {text}"


def _event(event: dict[str, Any]) -> str:
    kind, node = event["kind"], event["node"]
    if kind not in _TOLD:
        return ""
    who = f"node {node}" if node >= 0 else "the world"
    match kind:
        case "role":
            return f"{who} leads" if event["role"] in {"leader", "primary"} else ""
        case "crash":
            return f"{who} crashes" + (" and loses what was not synced" if event.get("power") else "")
        case "wipe":
            return f"{who} loses its disk"
        case "start":
            return f"{who} starts"
        case "restore":
            return f"{who} takes over the snapshot of {event['at']}"
        case "pause":
            return f"{who} pauses for {event.get('length_us', 0) / 1e6:.1f} s"
        case _:
            rest = ", ".join(
                f"{key} {value}" for key, value in event.items() if key not in {"at_us", "kind", "node"}
            )
            return f"{who}: {kind} {rest}".rstrip()


def _around(history: Sequence[Operation], bad: Operation | None) -> list[Operation]:
    """Return the calls near the bad one: a drawing of hundreds shows nothing."""
    if bad is None or bad not in history:
        return list(history[-40:])
    near = sorted(history, key=lambda operation: operation.call)
    place = near.index(bad)
    return near[max(0, place - 30) : place + 10]


# Files


def write_seed_file(seed: SeedFile, folder: Path) -> str:
    """Write a seed file, and return the command that shows it again; `OSError` where that cannot be done."""
    number = seed.plan.seed if seed.plan is not None else seed.seed
    protocol = seed.plan.protocol if seed.plan is not None else "raft"
    stem = _stem(seed.machine) or protocol
    path = folder / (
        f"{stem}-{number}.json" if protocol in {stem, "raft"} else f"{stem}-{protocol}-{number}.json"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(seed) + b"\n")
    return f"viewstamp sim --replay {_near(str(path))}"


def _draw(
    failure: Failure, history: Sequence[Operation], marked: Sequence[Operation], folder: Path, seed: int
) -> str:
    path = folder / f"{_stem(failure.machine)}-{seed}.html"
    account = "\n".join([failure.name, *failure.text.splitlines()[:12]])
    path.write_text(
        draw_html(history, f"{failure.machine}: {failure.name}", account, marked), encoding="utf-8"
    )
    return _near(str(path))


def _stem(machine: str) -> str:
    return machine.rpartition(":")[2].replace(".", "-").replace("<locals>", "local")


def read_seed_file(path: Path) -> SeedFile:
    """Return what a seed file says.

    Raises:
        OSError: it cannot be read.
        msgspec.MsgspecError: it is not a seed file.
    """
    return msgspec.json.decode(path.read_bytes(), type=SeedFile)
