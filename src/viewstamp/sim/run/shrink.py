"""Makes a failing run smaller: fewer faults, fewer nodes, less time; as long as it fails the same way."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.sim.run.plan import RunPlan, RunReport
from viewstamp.sim.run.run import options_of
from viewstamp.sim.world.options import SHRINKABLE

ATTEMPTS_MAX: Final = 100
_SHORTEST_US: Final = 200_000

Runner = Callable[[RunPlan], RunReport]


def shrink(
    plan: RunPlan, definition: ProtocolDefinition, run: Runner, attempts_max: int = ATTEMPTS_MAX
) -> tuple[RunPlan, RunReport]:
    """Return the smallest plan found that violates the same invariant, and its report.

    Raises:
        ValueError: the plan does not fail at all.
    """
    report = run(plan)
    if report.violation is None:
        raise ValueError(f"seed {plan.seed} does not fail: there is nothing to shrink")
    name, events_max = report.violation.name, report.events
    tried: set[RunPlan] = {plan}
    refused: set[str] = set()
    """Steps that did not help; tried once more when others have."""
    progress = False
    while True:
        for step, smaller in _smaller(plan, definition, report):
            if len(tried) >= attempts_max:
                return plan, report
            if step in refused or smaller in tried:
                continue
            tried.add(smaller)
            attempt = run(smaller)
            fails_alike = attempt.violation is not None and attempt.violation.name == name
            # Less may also be more: without the drawn load clients call faster than with it.
            if fails_alike and attempt.events <= 2 * events_max:
                plan, report, progress = smaller, attempt, True
                break
            refused.add(step)
        else:
            if not progress:
                return plan, report
            refused.clear()
            progress = False


def _smaller(
    plan: RunPlan, definition: ProtocolDefinition, report: RunReport
) -> Iterator[tuple[str, RunPlan]]:
    """Yield plans that are a step smaller, with the step's name, the boldest steps first."""
    replace = msgspec.structs.replace
    options = options_of(plan, definition)
    for group in SHRINKABLE:
        if group not in plan.without:
            yield group, replace(plan, without=(*_outside(plan.without, group), group))
    assert report.violation is not None
    if report.violation.at_us < options.duration_us:
        yield "end at the violation", replace(plan, duration_us=_rounded(report.violation.at_us))
    yield "half the time", replace(plan, duration_us=_rounded(options.duration_us // 2))
    if options.nodes > 3:
        yield "three nodes", replace(plan, nodes=3)
    for group in SHRINKABLE:
        if group not in plan.without:
            yield from _without_fields(plan, group, getattr(options, group))


def _without_fields(plan: RunPlan, group: str, value: msgspec.Struct) -> Iterator[tuple[str, RunPlan]]:
    default = type(value)()
    for field in value.__struct_fields__:
        name = f"{group}.{field}"
        if name not in plan.without and getattr(value, field) != getattr(default, field):
            yield name, msgspec.structs.replace(plan, without=(*plan.without, name))


def _outside(without: tuple[str, ...], group: str) -> tuple[str, ...]:
    """Leave out the fields of a group that is left out as a whole."""
    return tuple(name for name in without if not name.startswith(f"{group}."))


def _rounded(duration_us: int) -> int:
    """Return whole milliseconds, as the replay command prints them."""
    return max(_SHORTEST_US, -(-duration_us // 1_000) * 1_000)
