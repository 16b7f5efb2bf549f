"""`viewstamp check FILE`: judge a recorded history.

Exit codes: 0 the history is linearizable; 1 it is not; 2 the file or an option cannot be used; 3 the budget
ran out before the answer was known, which is never a pass.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from viewstamp.core.errors import ConfigurationError
from viewstamp.replica.machine import StateMachine
from viewstamp.sim.checker_machine import MachineModel
from viewstamp.sim.checker_store import VersionedStore
from viewstamp.sim.drawing import draw_html, draw_svg, draw_text
from viewstamp.sim.history import HistoryError, Operation, bounded_lines, read_history
from viewstamp.sim.linearizable import STEPS_MAX, Verdict
from viewstamp.sim.linearizable import check as judge
from viewstamp.sim.models import CounterModel, LockModel, Model, Register

OK: Final = 0
VIOLATION: Final = 1
BAD_INPUT: Final = 2
UNKNOWN: Final = 3
_EXIT_CODES: Final = {"ok": OK, "violation": VIOLATION, "unknown": UNKNOWN}
_MODELS: Final[dict[str, Callable[[], Model]]] = {
    "kv": VersionedStore,
    "register": Register,
    "lock": LockModel,
    "counter": CounterModel,
}


def check(
    file: Path,
    *,
    model: str = "kv",
    independent_keys: Annotated[bool, Parameter(negative="")] = False,
    draw: Path | None = None,
    steps_max: int = STEPS_MAX,
    seconds_max: float = 600.0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Judge whether a recorded history is linearizable.

    Exit code 0: it is. 1: it is not, and the smallest contradiction found is printed. 2: the file or an
    option cannot be used. 3: the budget ran out before the answer was known.

    Args:
        file: The recorded history, one JSON object a line; /dev/stdin reads standard input.
        model: What the operations mean: kv, register, lock, counter, or a machine's class as module:Class.
        independent_keys: With module:Class: calls with different keys do not influence each other.
        draw: Write a drawing there: text, or by its ending .svg or .html.
        steps_max: Give up after so many configurations.
        seconds_max: Give up after so many seconds.
        json: Print the verdict as a JSON object.
    """
    try:
        chosen = find_model(model, independent_keys=independent_keys)
        operations = _read(file)
        expired = partial(_is_over, monotonic() + seconds_max)
        verdict = judge(operations, chosen, steps_max=steps_max, expired=expired)
        if draw is not None:
            draw.write_text(_drawing(draw, operations, verdict), encoding="utf-8")
    except (HistoryError, ConfigurationError, OSError) as error:
        print(f"viewstamp check: {error}", file=sys.stderr)
        return BAD_INPUT
    print(_as_json(verdict) if json else verdict)
    return _EXIT_CODES[verdict.outcome]


def find_model(name: str, *, independent_keys: bool) -> Model:
    """Return the model of this name, or made from the class at `module:Class`.

    Raises:
        ConfigurationError: there is none.
    """
    if name in _MODELS:
        return _MODELS[name]()
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigurationError(f"no model {name!r}: choose {', '.join(_MODELS)}, or module:Class")
    try:
        machine = vars(import_module(module)).get(attribute)
    except ImportError as error:
        raise ConfigurationError(f"cannot import {module!r}: {error}") from None
    if not (isinstance(machine, type) and issubclass(machine, StateMachine)):
        raise ConfigurationError(f"{name!r} is not a StateMachine class")
    return MachineModel(machine, independent_keys=independent_keys)


def _is_over(deadline_s: float) -> bool:
    return monotonic() > deadline_s


def _read(file: Path) -> list[Operation]:
    with file.open("rb") as opened:
        return read_history(bounded_lines(opened))


def _drawing(target: Path, operations: list[Operation], verdict: Verdict) -> str:
    """Draw the window of a counter-example with what led to it, otherwise the whole history."""
    found = verdict.counterexample
    shown = operations if found is None else [*found.before, *found.window]
    marked = () if found is None else (found.failing,)
    title = f"{verdict.outcome}: {found.part}" if found else verdict.outcome
    match target.suffix:
        case ".svg":
            return draw_svg(shown, title, marked)
        case ".html":
            return draw_html(shown, title, str(verdict), marked)
        case _:
            return f"{verdict}\n\n{draw_text(shown, marked)}\n"


def _as_json(verdict: Verdict) -> str:
    found = verdict.counterexample
    document: dict[str, Any] = {
        "outcome": verdict.outcome,
        "operations": verdict.operations,
        "parts": verdict.parts,
        "configurations": verdict.steps,
        "undecided": verdict.undecided,
        "counterexample": None if found is None else str(found),
    }
    return msgspec.json.encode(document).decode()
