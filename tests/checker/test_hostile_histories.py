"""Histories from anywhere: whatever is in them, the checker answers or says what it cannot judge."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.checker.test_models import Till
from viewstamp.checker.drawing import draw_html, draw_svg, draw_text
from viewstamp.checker.history import HistoryError, read_history
from viewstamp.checker.linearizable import check
from viewstamp.checker.machine_model import MachineModel
from viewstamp.checker.models import CounterModel, LockModel, Model
from viewstamp.checker.register_model import Register
from viewstamp.checker.store_model import VersionedStore

MODELS: dict[str, tuple[Callable[[], Model], list[str]]] = {
    "kv": (VersionedStore, ["get", "put", "set", "delete", "range"]),
    "register": (Register, ["read", "write", "cas"]),
    "lock": (LockModel, ["acquire", "release"]),
    "counter": (CounterModel, ["add", "read"]),
    "machine": (lambda: MachineModel(Till), ["deposit", "balance"]),
}
ESCAPE = "\x1b[31m"


def junk(rng: Random, depth: int = 0) -> Any:
    """Return any JSON value, mostly one that nearly fits."""
    if depth < 3 and rng.random() < 0.3:
        items = [junk(rng, depth + 1) for _ in range(rng.randrange(4))]
        return items if rng.random() < 0.7 else {str(number): item for number, item in enumerate(items)}
    return rng.choice(
        [None, True, False, 0, 1, 2, -1, 1 << 70, 0.5, "", "a", "NoKey", ESCAPE, "\ud7ff\u2028"]
    )


def junk_line(rng: Random, ops: list[str]) -> dict[str, Any]:
    outcome = rng.choice(["ok", "ok", "ok", "raised", "unknown", "failed"])
    call = rng.randrange(10)
    line = {
        "client": rng.choice([1, 2, ESCAPE]),
        "call": call,
        "return": call + rng.randrange(9),
        "op": rng.choice(ops),
        "key": rng.choice([None, "a", "a", "a", 1, junk(rng)]),
        "args": [junk(rng) for _ in range(rng.randrange(4))],
        "outcome": outcome,
    }
    if outcome in {"ok", "raised"}:
        line["result"] = junk(rng) if outcome == "ok" else rng.choice(["NoKey", "Maybe", ESCAPE])
    return line


@pytest.mark.parametrize("name", MODELS)
def test_checker_answers_or_refuses_when_a_history_holds_anything(name: str) -> None:
    model, ops = MODELS[name]
    rng = Random(name)
    judged = 0
    for _ in range(4_000):
        lines = [json.dumps(junk_line(rng, ops)).encode() for _ in range(rng.randint(1, 5))]
        operations = read_history(lines)
        try:
            verdict = check(operations, model())
        except HistoryError as error:
            told = str(error)
        else:
            told = str(verdict).replace("\n", "") + draw_text(operations).replace("\n", "")
            judged += 1
        assert told.isprintable(), told
        assert ESCAPE not in draw_svg(operations, "title") + draw_html(operations, "title", told)
    assert judged > 100
