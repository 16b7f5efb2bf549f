"""Equal runs of one sequence of calls, without a cluster: what differs between them is a finding with a name.

The runs of `contradiction`: directly, under the guard; again in a second instance; restored from a snapshot
before every other call; with other batches. `elsewhere` makes the same sequence run in another process.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from viewstamp.core.errors import ViewstampError
from viewstamp.core.ids import LogTime, Seqno, View, Viewstamp, fencing_token
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import FAILED
from viewstamp.machine.context import Context
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.guard import Guard
from viewstamp.machine.rules import (
    ALIASING,
    BATCH,
    HALF_DONE,
    HIDDEN_STATE,
    QUERY_MUTATES,
    RECURSION,
    RESTORE_DIFFERS,
    SET_ORDER,
    SNAPSHOT_OMITS,
    UNDECLARED,
    Rule,
)
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_digest import digest_of_pieces, digest_pieces
from viewstamp.machine.state_machine import StateMachine, saves_itself
from viewstamp.sim.judge.whole_snapshots import difference_of
from viewstamp.testing.state_walk import holds_set, parts_of, shared_objects, state_of, telltale
from viewstamp.testing.steps import STEPS, Step

_BASE: Final = 7_000_003
"""The first seqno: one that stands out in a result."""
_OFFSET: Final = 900_001
_BATCH_MAX: Final = 5
_FAILURE: Final[msgspec.msgpack.Decoder[tuple[str, str]]] = msgspec.msgpack.Decoder(tuple[str, str])


class Place(NamedTuple):
    """Where in a log a call is executed."""

    seqno: int
    offset: int
    token: int


class Outcome(NamedTuple):
    """What a call left behind."""

    kind: int
    payload: bytes
    state: int
    """Digest of the state afterwards."""
    notified: tuple[tuple[int, bytes], ...]

    def __str__(self) -> str:
        if self.kind == FAILED:
            name, text = _FAILURE.decode(self.payload)
            return f"raised {name}: {text}"[:100]
        return f"returned {_value(self.payload)!r}"[:100]


class Contradiction(NamedTuple):
    """What was found, and after which call."""

    rule: Rule
    at: int
    """The place of the call among the steps."""
    text: str
    file: str = ""
    line: int = 0


class TwinContext(Context):
    """A context whose token is the call's own, however calls are batched."""

    __slots__ = ("own_token",)

    def __init__(self) -> None:
        self.own_token = 0
        super().__init__()

    @property
    def token(self) -> int:
        """The token that this call has in every run."""
        return self.own_token


class Twin:
    """One run of a sequence."""

    def __init__(
        self, definition: MachineDefinition, places: Sequence[Place], guard: Guard | None = None
    ) -> None:
        self.definition = definition
        self._places = places
        self._guard = guard
        self._notified: Sequence[Any] = ()
        self.runner = self._lend(MachineRunner(definition, strict=True, guard=guard))

    def _lend(self, runner: MachineRunner) -> MachineRunner:
        runner.context = TwinContext()
        runner.machine.bind_context(runner.context)
        return runner

    def restore(self) -> None:
        """Go on with what a snapshot makes of the state."""
        self.runner = self._lend(self.runner.restored(b"".join(self.runner.pieces())))

    def run(self, number: int, step: Step) -> Outcome:
        """Execute one step, and return everything that it left behind.

        Raises:
            InvariantViolated: a query changed the state.
        """
        kind, payload = self.execute(number, step)
        notified = tuple((one.client, one.payload) for one in self._notified)
        return Outcome(kind, payload, self.state(), notified)

    def execute(self, number: int, step: Step) -> tuple[int, bytes]:
        """Execute one step, and return the kind of its result and the result.

        Raises:
            InvariantViolated: a query changed the state.
        """
        runner, place = self.runner, self._places[number]
        context: Any = runner.context
        viewstamp = Viewstamp(View(3), Seqno(place.seqno))
        begin = runner.begin_queries if step.kind == "query" else runner.begin_entry
        begin(viewstamp, LogTime(step.now))
        context.own_token = place.token
        kind, payload = 0, b""
        try:
            if step.kind == "session_ended":
                runner.end_session(step.client, place.offset)
            else:
                if step.kind == "command":
                    context.client, context.session, context.offset = step.client, step.client, place.offset
                kind, payload = runner.run(_decoded(self.definition, step))
        finally:
            self._notified = runner.end_entry()
        return kind, payload

    def written(self) -> bytes:
        """Return the state as a snapshot writes it; nothing where it has none."""
        try:
            return b"".join(self.runner.pieces())
        except (ViewstampError, TypeError, ValueError):
            return b""  # what has no snapshot is reported by its name elsewhere

    def state(self) -> int:
        """Return the digest of the state; of a class that saves itself: of its snapshot."""
        machine = self.runner.machine
        if self.saves_itself:
            return digest_of_pieces(self.runner.pieces())
        return digest_of_pieces(digest_pieces(machine))

    @property
    def saves_itself(self) -> bool:
        """Whether the class, or one of its parts, writes its own snapshots."""
        return any(saves_itself(type(part)) for part in parts_of(self.runner.machine))


def _decoded(definition: MachineDefinition, step: Step) -> Any:
    method = definition.methods[step.method]
    payload = msgspec.msgpack.encode([step.method, *step.arguments])
    return definition.decode(method.kind, payload)


def alone(count: int, offset: int = _OFFSET) -> list[Place]:
    """Return places of entries with one call each."""
    return [Place(_BASE + number, offset, _token(number)) for number in range(count)]


def batched(count: int, seed: int, first: int = _OFFSET) -> list[Place]:
    """Return places of entries with up to five calls each, whose offsets begin at `first`."""
    rng = Random(seed)  # noqa: S311  a simulation
    places: list[Place] = []
    seqno = _BASE
    while len(places) < count:
        for place in range(rng.randint(1, _BATCH_MAX)):
            places.append(Place(seqno, first + place, _token(len(places))))
        seqno += 1
    return places[:count]


def _token(number: int) -> int:
    return fencing_token(Seqno(_BASE + number), 0)


def contradiction(definition: MachineDefinition, steps: Sequence[Step], seed: int) -> Contradiction | None:
    """Return the first finding of the runs within this process; None: they agree."""
    if len(steps) > STEPS:
        return _at_length(definition, steps)
    places = alone(len(steps))
    direct: list[Outcome] = []
    found = _directly(definition, steps, places, direct)
    if found is not None:
        return found
    return (
        _again(definition, steps, places, direct)
        or _restored(definition, steps, places, direct)
        or _in_batches(definition, steps, seed)
        or _in_batches(definition, steps, seed, first=0)
    )


def outcomes(definition: MachineDefinition, steps: Sequence[Step]) -> list[Outcome]:
    """Return what each call leaves behind in a direct run."""
    twin = Twin(definition, alone(len(steps)))
    return [twin.run(number, step) for number, step in enumerate(steps)]


def digests(found: Sequence[Outcome]) -> list[int]:
    """Return a digest for each outcome, to be compared with those of another process."""
    return [xxhash.xxh3_64_intdigest(msgspec.msgpack.encode(outcome)) for outcome in found]


# The runs


def _directly(
    definition: MachineDefinition, steps: Sequence[Step], places: Sequence[Place], direct: list[Outcome]
) -> Contradiction | None:
    guard = Guard(definition.cls)
    twin = Twin(definition, places, guard)
    before = twin.state()
    for number, step in enumerate(steps):
        try:
            outcome = twin.run(number, step)
        except InvariantViolated as error:
            return Contradiction(QUERY_MUTATES, number, error.explanation)
        except (ViewstampError, TypeError, ValueError) as error:
            return Contradiction(
                _rule_of_snapshot(str(error)), number, f"has no snapshot afterwards: {error}"
            )
        if guard.findings:
            seen = guard.findings[0]
            return Contradiction(seen.rule, number, f"{seen.where} {seen.text}", seen.file, seen.line)
        shown = telltale(outcome.payload) or (telltale(twin.written()) if outcome.state != before else None)
        if shown is not None:
            return Contradiction(shown[0], number, f"{step.method} {outcome}, and shows {shown[1]}")
        found = _of_failure(number, step, outcome, before) or _not_whole(twin, number)
        if found is not None:
            return found
        direct.append(outcome)
        before = outcome.state
    return None


def _rule_of_snapshot(text: str) -> Rule:
    return UNDECLARED if "not declared" in text else RESTORE_DIFFERS


def _of_failure(number: int, step: Step, outcome: Outcome, before: int) -> Contradiction | None:
    if outcome.kind != FAILED:
        return None
    recursion = _of_recursion(number, step, outcome.kind, outcome.payload)
    if recursion is not None:
        return recursion
    name, text = _FAILURE.decode(outcome.payload)
    if name == "AttributeError" and text.startswith("a query may not change"):
        return Contradiction(QUERY_MUTATES, number, text)
    if name == "AttributeError" and "is not declared and would be missing" in text:
        return Contradiction(UNDECLARED, number, text)
    if step.kind == "command" and outcome.state != before:
        what = f"raised {name} after it had changed the state: half of the change stays"
        return Contradiction(HALF_DONE, number, f"{step.method} {what}")
    return None


def _of_recursion(number: int, step: Step, kind: int, payload: bytes) -> Contradiction | None:
    if kind != FAILED or _FAILURE.decode(payload)[0] != "RecursionError":
        return None
    return Contradiction(RECURSION, number, f"{step.method} recurses deeper than 1,000 frames")


def _not_whole(twin: Twin, number: int) -> Contradiction | None:
    """Say what a snapshot of the state would lose."""
    machine = twin.runner.machine
    try:
        fresh = twin.runner.restored(b"".join(twin.runner.pieces())).machine
    except Exception as error:  # noqa: BLE001  the user's code may raise anything
        return Contradiction(RESTORE_DIFFERS, number, f"its snapshot cannot be restored: {error}")
    found = difference_of(machine, fresh)
    if found is None:
        return None
    rule = SNAPSHOT_OMITS if _is_lost(machine, fresh, found) else RESTORE_DIFFERS
    return Contradiction(rule, number, found)


def _is_lost(machine: StateMachine, fresh: StateMachine, text: str) -> bool:
    """Return whether the restored machine has what a new one has: the snapshot did not hold the attribute."""
    if "is missing" in text:
        return True
    name = text.split(" ", 1)[0].rpartition(".")[2]
    for part, again in zip(parts_of(machine), parts_of(fresh), strict=True):
        if name in vars(part):
            return bool(getattr(again, name, None) == getattr(type(part)(), name, None))
    return False


def _at_length(definition: MachineDefinition, steps: Sequence[Step]) -> Contradiction | None:
    """Look in a long sequence only for a recursion that the size of the state makes deep."""
    twin = Twin(definition, alone(len(steps)))
    for number, step in enumerate(steps):
        kind, payload = twin.execute(number, step)
        found = _of_recursion(number, step, kind, payload)
        if found is not None:
            return found
    return None


def _again(
    definition: MachineDefinition, steps: Sequence[Step], places: Sequence[Place], direct: Sequence[Outcome]
) -> Contradiction | None:
    twin = Twin(definition, places)
    for number, step in enumerate(steps):
        outcome = twin.run(number, step)
        if outcome != direct[number]:
            told = f"{_told(step, direct[number], outcome)} in a second instance of the same process"
            return Contradiction(HIDDEN_STATE, number, told)
    return None


def _restored(
    definition: MachineDefinition, steps: Sequence[Step], places: Sequence[Place], direct: Sequence[Outcome]
) -> Contradiction | None:
    twin, whole = Twin(definition, places), Twin(definition, places)
    for number, step in enumerate(steps):
        shared = shared_objects(whole.runner.machine)
        had_set = holds_set(whole.runner.machine)
        twin.restore()
        lost = _lost_attribute(whole, twin)
        outcome = twin.run(number, step)
        whole.run(number, step)
        if outcome == direct[number]:
            continue
        told = f"{_told(step, direct[number], outcome)} after a snapshot and its restoration"
        if shared:
            return Contradiction(ALIASING, number, f"has one object in two places ({shared}): {told}")
        if had_set or holds_set(whole.runner.machine):
            return Contradiction(SET_ORDER, number, told)
        if lost:
            return Contradiction(SNAPSHOT_OMITS, number, f"{lost} is not in the snapshot: {told}")
        if not twin.saves_itself:  # its whole state came back, and yet it answers otherwise
            return Contradiction(HIDDEN_STATE, number, f"remembers outside its attributes: {told}")
        return Contradiction(RESTORE_DIFFERS, number, told)
    return None


def _lost_attribute(whole: Twin, restored: Twin) -> str:
    """Return the attribute that a restored machine has as a new one has it, and the other one not."""
    if not whole.saves_itself:
        return ""
    for part, again in zip(parts_of(whole.runner.machine), parts_of(restored.runner.machine), strict=True):
        had, has, new = state_of(part), state_of(again), state_of(type(part)())
        for name in sorted(had.keys() & new.keys()):
            if _plain(had[name]) != _plain(new[name]) and _plain(has.get(name)) == _plain(new[name]):
                return f"self.{name}"
    return ""


def _in_batches(
    definition: MachineDefinition, steps: Sequence[Step], seed: int, *, first: int = _OFFSET
) -> Contradiction | None:
    """Compare calls that share entries with calls that do not; offsets begin at `first`.

    Large offsets stand out in a result, so that only these are taken for positions. Small ones are as in
    production: a class may ask whether its offset is 0.
    """
    places = batched(len(steps), seed, first)
    twin, whole = Twin(definition, places), Twin(definition, alone(len(steps), first))
    renamed = _Renamed(len(steps), first)
    for number, step in enumerate(steps):
        outcome, direct = twin.run(number, step), whole.run(number, step)
        if outcome == direct:
            continue
        if renamed.of_outcome(outcome) != renamed.of_outcome(direct):
            told = f"{_told(step, direct, outcome)} where several calls share an entry of the log"
            return Contradiction(BATCH, number, told)
        if renamed.of_state(twin.runner.machine) != renamed.of_state(whole.runner.machine):
            return Contradiction(
                BATCH, number, f"{step.method} left another state where calls share an entry"
            )
    return None


class _Renamed:
    """Values in which each seqno and offset of the runs is one word: positions may differ, no more."""

    def __init__(self, count: int, first: int) -> None:
        self._numbers = {*range(_BASE, _BASE + count), *range(first, first + _BATCH_MAX)}
        self._text = re.compile(r"\d{6,7}" if first else r"\d+")

    def of_outcome(self, outcome: Outcome) -> Any:
        notified = [(client, self.of(_value(payload))) for client, payload in outcome.notified]
        return outcome.kind, self.of(_value(outcome.payload)), notified

    def of_state(self, machine: StateMachine) -> Any:
        return [self.of(_plain(value)) for part in parts_of(machine) for value in state_of(part).values()]

    def of(self, value: Any) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            return "a position" if value in self._numbers else value
        if isinstance(value, str):
            return self._text.sub(
                lambda found: "a position" if int(found[0]) in self._numbers else found[0], value
            )
        if isinstance(value, dict):
            return [(self.of(key), self.of(item)) for key, item in value.items()]
        if isinstance(value, (list, tuple)):
            return [self.of(item) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted(map(repr, map(self.of, value)))
        return value


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=False)
    except (TypeError, ValueError):
        return repr(value)


def _told(step: Step, first: Outcome, second: Outcome) -> str:
    if (first.kind, first.payload) != (second.kind, second.payload):
        return f"{step.method} {first}, and {second}"
    if first.notified != second.notified:
        return f"{step.method} sent other notifications"
    return f"{step.method or 'session_ended'} left another state"


def _value(payload: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(payload) if payload else None
    except (msgspec.DecodeError, ValueError):
        return payload
