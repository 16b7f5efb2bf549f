"""`viewstamp check FILE`: judge a recorded history.

Exit codes: 0 the history is linearizable; 1 it is not; 2 the file or an option cannot be used; 3 the budget
ran out before the answer was known, which is never a pass.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from viewstamp.checker.claim_models import LeasedQueueModel, ReadWriteLockModel, SemaphoreModel
from viewstamp.checker.collection_models import QueueModel, SetModel
from viewstamp.checker.coordination_model import CoordinationModel
from viewstamp.checker.drawing import draw_html, draw_svg, draw_text
from viewstamp.checker.history import HistoryError, Operation, bounded_lines, freeze, plain, read_history
from viewstamp.checker.linearizable import STEPS_MAX, Verdict
from viewstamp.checker.linearizable import check as judge
from viewstamp.checker.machine_model import MachineModel
from viewstamp.checker.models import ANYTHING, DEFAULT, CounterModel, LockModel, Model
from viewstamp.checker.register_model import Register
from viewstamp.checker.store_model import NEW, VersionedStore
from viewstamp.cli.failures import explain_os_error
from viewstamp.cli.serve import load_machine
from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.definition import MachineDefinition
from viewstamp.storage.files import open_named

STANDARD_INPUT: Final = Path("/dev/stdin")
"""The one name that need not be a regular file's."""
OK: Final = 0
VIOLATION: Final = 1
BAD_INPUT: Final = 2
UNKNOWN: Final = 3
_EXIT_CODES: Final = {"ok": OK, "violation": VIOLATION, "unknown": UNKNOWN}
_REASON_CHARACTERS_MAX: Final = 300
_DRAWINGS: Final = (".svg", ".html", ".txt")
_MODELS: Final[dict[str, Callable[..., Model]]] = {
    "kv": VersionedStore,
    "register": Register,
    "lock": LockModel,
    "counter": CounterModel,
    "queue": QueueModel,
    "set": SetModel,
    "semaphore": SemaphoreModel,
    "rwlock": ReadWriteLockModel,
    "leased-queue": LeasedQueueModel,
    "store": CoordinationModel,
}
_UNKNOWN_START: Final = "unknown"
_NEW_START: Final = "new"


def check(
    file: Path,
    /,
    *,
    model: str = "kv",
    independent_keys: Annotated[bool, Parameter(negative="")] = False,
    initial: str = "",
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
        model: What the operations mean: kv, register, lock, semaphore, rwlock, counter, queue, leased-queue,
            set, store, or a class as module:Class.
        independent_keys: With module:Class: calls with different keys do not influence each other.
        initial: What each key held when the recording began: unknown, a JSON value, or new (kv).
        draw: Write a drawing there: text (.txt), .svg or .html, by its ending.
        steps_max: Give up after this number of configurations.
        seconds_max: Give up after this number of seconds.
        json: Print the verdict as a JSON object.
    """
    try:
        chosen = find_model(model, independent_keys=independent_keys, initial=initial)
        check_options(draw, steps_max, seconds_max)
        operations = _read(file)
        expired = partial(_is_over, monotonic() + seconds_max)
        verdict = judge(operations, chosen, steps_max=steps_max, expired=expired)
        _require_proof(chosen, verdict)
        if draw is not None:
            draw.write_text(_drawing(draw, operations, verdict), encoding="utf-8")
    except (HistoryError, ConfigurationError, OSError) as error:
        why = explain_os_error(error) if isinstance(error, OSError) else error
        print(f"viewstamp check: {why}; nothing was judged", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:  # noqa: BLE001  whatever a history does to a model, it must not look like a verdict
        why = plain(f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS_MAX])
        print(f"viewstamp check: the history cannot be judged: {why}; nothing was judged", file=sys.stderr)
        return BAD_INPUT
    print(_as_json(verdict) if json else verdict)
    return _EXIT_CODES[verdict.outcome]


def find_model(name: str, *, independent_keys: bool, initial: str = "") -> Model:
    """Return the model of this name, or made from the class at `module:Class`.

    Raises:
        ConfigurationError: there is none, `serve` would refuse the class, or it cannot begin like this.
    """
    if name in _MODELS:
        return _MODELS[name](initial=_beginning(name, initial))
    if ":" not in name:
        raise ConfigurationError(f"no model {name!r}: choose {', '.join(_MODELS)}, or module:Class")
    if initial:
        raise ConfigurationError(f"--initial {initial}: a class begins as its attributes say; leave it out")
    machine = load_machine(name)
    MachineDefinition.of(machine)
    return MachineModel(machine, independent_keys=independent_keys)


def _beginning(model: str, initial: str) -> Any:
    """Return what a model is to begin with."""
    if not initial:
        return DEFAULT
    if initial == _UNKNOWN_START:
        return ANYTHING
    if model == "kv":
        if initial == _NEW_START:
            return NEW
        raise ConfigurationError(
            f"--initial {initial}: with --model kv write {_UNKNOWN_START} or {_NEW_START}"
        )
    try:
        value = freeze(msgspec.json.decode(initial))
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"--initial {initial}: write {_UNKNOWN_START}, or a JSON value: {error}"
        ) from None
    kind = {"counter": int, "lock": int, "queue": tuple, "set": tuple, "semaphore": int}.get(model)
    if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        wanted = "a list" if kind is tuple else "an integer"
        raise ConfigurationError(f"--initial {initial}: with --model {model} write {wanted}")
    return value


def check_options(draw: Path | None, steps_max: int, seconds_max: float) -> None:
    """Refuse what cannot be used before anything is read.

    Raises:
        ConfigurationError: the drawing's kind is unknown, or the budget is none.
    """
    if draw is not None and draw.suffix not in _DRAWINGS:
        raise ConfigurationError(f"--draw {draw}: let the name end in {', '.join(_DRAWINGS)}")
    if steps_max < 1:
        raise ConfigurationError(f"--steps-max {steps_max}: give 1 or more")
    if not seconds_max > 0:
        raise ConfigurationError(f"--seconds-max {seconds_max}: give more than 0")


def _require_proof(model: Model, verdict: Verdict) -> None:
    """Raise `HistoryError` where a violation may only be what the history does not record."""
    if verdict.outcome == "violation" and isinstance(model, MachineModel) and (doubt := model.doubt()):
        raise HistoryError(doubt)


def _is_over(deadline_s: float) -> bool:
    return monotonic() > deadline_s


def _read(file: Path) -> list[Operation]:
    with sys.stdin.buffer if file == STANDARD_INPUT else open_named(file) as opened:
        operations = read_history(bounded_lines(opened))
    if not operations:
        raise HistoryError(f"{file} holds no operation: was the history recorded?")
    if all(operation.outcome == "failed" for operation in operations):
        raise HistoryError(f"{file} holds only calls that were not executed, which prove nothing")
    return operations


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
