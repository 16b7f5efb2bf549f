"""New code over an old log: the first entry at which it answers differently, or comes to another state.

With an old class beside the new one both execute every entry, and results are compared call by call. States
are compared after each entry while they are small. A large one is compared more rarely, so that an entry
costs the same; where two differ then, the entries since the last comparison are executed again to find the
first. Without an old class the digest chain in the stream says at which entry the results differ.

Source of the idea: Temporal's `Replayer`, which does it for the history of one workflow.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from viewstamp.backup.execution import Execution, Results, entries_of
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Viewstamp
from viewstamp.core.messages import FAILED, RESULT, Submit
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.machine.canonical import encoder_of
from viewstamp.machine.state_machine import StateMachine, annotated_state, saves_itself
from viewstamp.replica.answers import ResultLine
from viewstamp.replica.digest_chain import DigestChain
from viewstamp.stream.records import LogEntry, Record

BYTES_PER_ENTRY: Final = 4_096
"""States are compared each time when the entries since the last comparison times this are their size."""
COMPARED_EVERY_MAX: Final = 10_000
SAVED_EVERY: Final = 10_000
"""Entries between two snapshots of both states, from which entries can be executed again."""
SAVED_BYTES: Final = 64 << 20
"""Bytes of entries between two snapshots, at most: they are kept in memory."""
SEARCHED_BYTES: Final = 64 << 20
"""Of states, up to which each entry is looked at to find the first one; else half of them each time."""
_TEXT_MAX: Final = 300
_LINES_MAX: Final = 20


_Call: TypeAlias = tuple[int, int, str, tuple[Any, ...]]
"""(client, sequence number, method, arguments)."""


class Difference(msgspec.Struct, frozen=True):
    """What the new code does otherwise at one entry."""

    index: int
    """Which entry of the stream it is, from 1."""
    viewstamp: Viewstamp
    method: str
    """Empty: several commands were executed, and which of them differs is not known."""
    arguments: tuple[Any, ...]
    old: str
    """The result or the exception as it was; empty: not known, or only the state differs."""
    new: str
    attribute: str = ""
    """The first attribute of the state that differs, with both values; empty: not compared, or equal."""

    def __str__(self) -> str:
        """Return one line for a person."""
        call = f"{self.method}({', '.join(map(repr, self.arguments))})" if self.method else "its commands"
        parts = [f"entry {self.index} ({self.viewstamp}), {call}: "]
        if self.new:
            parts.append(f"was: {self.old}; is: {self.new}")
        else:
            parts.append("leaves another state" if self.attribute else "came to other results")
        if self.attribute:
            parts.append(f"; {self.attribute}")
        return "".join(parts)


class Comparison(msgspec.Struct, frozen=True):
    """What comparing two states found."""

    attribute: str
    """The first attribute that differs, with both values; empty: none does."""
    size_bytes: int
    """Of what was compared, encoded."""


class Report(msgspec.Struct):
    """What a replay found."""

    entries: int = 0
    commands: int = 0
    differing: int = 0
    """Entries at which a result differs that is not allowed to."""
    allowed: int = 0
    """Results of allowed methods that differ."""
    first: Difference | None = None

    def lines(self) -> list[str]:
        """Return what was found, in one line or two."""
        if not self.entries:
            return ["nothing was executed: there are no entries"]
        done = f"{self.entries} entries with {self.commands} commands"
        allowed = f"; {self.allowed} results of allowed methods differ" if self.allowed else ""
        if self.first is None:
            return [f"no difference in {done}{allowed}"]
        return [str(self.first), f"{self.differing} of {done} differ{allowed}"]

    def __str__(self) -> str:
        """Return the lines as one text."""
        return "\n".join(self.lines())


class Replay:
    """One class, beside another or beside the results in the stream."""

    def __init__(
        self,
        new: Execution,
        old: Execution | None = None,
        *,
        allow: Iterable[str] = (),
        until_first: bool = False,
        compared_every: int | None = None,
    ) -> None:
        """Both executions stand where the stream begins, or before its snapshot.

        `compared_every` is the number of entries between two comparisons of the states; None: by their size.
        `allow` names methods whose results may differ; where only those were called, the state may as well.

        Raises:
            ConfigurationError: neither class has a command that `allow` names.
        """
        self._new = new
        self._old = old
        self._allow = _known(allow, [new] if old is None else [new, old])
        self._until_first = until_first
        self._every = compared_every
        self._states_compared = old is not None
        self._pending: list[LogEntry] = []
        """Entries since `_saved` was made."""
        self._pending_bytes = 0
        self._saved: tuple[BytesSnapshot, BytesSnapshot] | None = None
        """Both states, equal, before `_pending`."""
        self._equal = 0
        """After that many pending entries the states were compared last, and were equal."""
        self._compare_at = 0
        """The number of pending entries after which they are compared next."""
        self.report = Report()

    def run(self, records: Iterable[Record]) -> Report:
        """Replay a stream and return what was found.

        Raises:
            NotReproduced: a class cannot execute the stream.
            StreamDamaged: the stream is not whole.
        """
        for entry in self._entries(records):
            self._step(entry)
            if self._until_first and self.report.first is not None:
                break
        self.report.commands = self._new.commands
        self._compare_states()
        return self.report

    def _entries(self, records: Iterable[Record]) -> Iterator[LogEntry]:
        if self._old is None:
            yield from entries_of(records, self._new)
            return
        for entry in entries_of(records, self._new, self._old):
            if self._saved is None:
                self._save()
            yield entry

    def _step(self, entry: LogEntry) -> None:
        report = self.report
        report.entries += 1
        found = self._new.execute(entry, results=self._old is not None)
        if self._old is None:
            self._compare_digest(entry)
            return
        expected = self._old.execute(entry, results=True)
        if expected != found:
            self._compare_results(entry, expected, found)
        if self._states_compared:
            self._pending.append(entry)
            self._pending_bytes += len(entry.data)
            if len(self._pending) >= self._compare_at or self._pending_bytes >= SAVED_BYTES:
                self._compare_states()

    # Results

    def _compare_digest(self, entry: LogEntry) -> None:
        state, report = self._new.state, self.report
        if state.chain.digest == entry.digest:
            return
        # From here on the chain would differ at every entry: go on with what the stream says.
        state.chain = DigestChain(entry.seqno, entry.digest)
        calls = _calls_in(self._new, entry)
        methods = {method for _, _, method, _ in calls}
        if methods and methods <= self._allow:
            report.allowed += len(calls)
            return
        only = calls[0] if len(calls) == 1 else None
        method, arguments = ("", ()) if only is None else only[2:]
        self._differs(Difference(report.entries, entry.viewstamp, method, arguments, "", ""))

    def _compare_results(self, entry: LogEntry, expected: Results, found: Results) -> None:
        differs = False
        for client, sequence, method, arguments in _calls_in(self._new, entry):
            old, new = _line(expected, client, sequence), _line(found, client, sequence)
            if _same(old, new):
                continue
            if method in self._allow:
                self.report.allowed += 1
                continue
            if not differs:
                self._differs(
                    Difference(
                        self.report.entries,
                        entry.viewstamp,
                        method,
                        arguments,
                        _told(old),
                        _told(new),
                        self._attribute(),
                    )
                )
            differs = True

    def _differs(self, difference: Difference) -> None:
        self.report.differing += 1
        if self.report.first is None or difference.index < self.report.first.index:
            self.report.first = difference

    # States

    def _save(self) -> None:
        """Keep both states, which are equal here."""
        assert self._old is not None
        self._saved = self._new.saved(), self._old.saved()
        self._pending, self._pending_bytes, self._equal = [], 0, 0
        self._compare_at = self._interval(self._saved[0].meta.size_bytes)

    def _interval(self, size_bytes: int) -> int:
        return self._every or min(COMPARED_EVERY_MAX, 1 + size_bytes // BYTES_PER_ENTRY)

    def _attribute(self) -> str:
        assert self._old is not None
        return first_attribute(self._old.state.runner.machine, self._new.state.runner.machine).attribute

    def _compare_states(self) -> None:
        if self._old is None or not self._states_compared or not self._pending:
            return
        found = first_attribute(self._old.state.runner.machine, self._new.state.runner.machine)
        if found.attribute:
            self._states_compared = False  # they go different ways from here
            self._find_state(found)
        elif len(self._pending) >= SAVED_EVERY or self._pending_bytes >= SAVED_BYTES:
            self._save()
        else:
            self._equal = len(self._pending)
            self._compare_at = self._equal + self._interval(found.size_bytes)

    def _find_state(self, found: Comparison) -> None:
        """Find the first entry after which the states differ, and go back to where both were."""
        count, attribute = len(self._pending), found.attribute
        if count > self._equal + 1:
            assert self._old is not None
            here = self._new.saved(), self._old.saved()
            count, attribute = self._search(self._equal, count, found.size_bytes)
            self._put(here)
        entry = self._pending[count - 1]
        calls = _calls_in(self._new, entry)
        methods = {method for _, _, method, _ in calls}
        index = self.report.entries - len(self._pending) + count
        self._pending = []
        if methods and methods <= self._allow:
            self.report.allowed += 1
        elif self.report.first is None or index <= self.report.first.index:
            self._differs_in_state(index, entry, calls, attribute)

    def _search(self, low: int, high: int, size_bytes: int) -> tuple[int, str]:
        """Return after which pending entry the states differ: the first one, or, of large ones, one.

        They are equal after `low` entries and differ after `high`.
        """
        self._execute_again(low)
        if (high - low) * size_bytes <= SEARCHED_BYTES:
            for count, entry in enumerate(self._pending[low:high], low + 1):
                self._execute_both(entry)
                if attribute := self._attribute():
                    return count, attribute
        while high - low > 1:
            middle = (low + high) // 2
            self._execute_again(middle)
            if self._attribute():
                high = middle
            else:
                low = middle
        self._execute_again(high)
        return high, self._attribute()

    def _execute_again(self, count: int) -> None:
        assert self._saved is not None
        self._put(self._saved)
        for entry in self._pending[:count]:
            self._execute_both(entry)

    def _execute_both(self, entry: LogEntry) -> None:
        assert self._old is not None
        self._new.execute(entry)
        self._old.execute(entry)

    def _differs_in_state(self, index: int, entry: LogEntry, calls: Sequence[_Call], attribute: str) -> None:
        first = self.report.first
        if first is not None and first.index == index:
            self.report.first = msgspec.structs.replace(first, attribute=attribute)
            return
        method, arguments = calls[0][2:] if len(calls) == 1 else ("", ())
        self._differs(Difference(index, entry.viewstamp, method, arguments, "", "", attribute))

    def _put(self, states: tuple[BytesSnapshot, BytesSnapshot]) -> None:
        assert self._old is not None
        self._new.restore(states[0])
        self._old.restore(states[1])


def _known(allow: Iterable[str], executions: Iterable[Execution]) -> frozenset[str]:
    """Return the names that are allowed, each of which is a command of one of the classes."""
    methods = (method for each in executions for method in each.definition.methods.items())
    commands = {name for name, method in methods if method.kind == "command"}
    allowed = frozenset(allow)
    for name in sorted(allowed - commands):
        raise ConfigurationError(
            f"allow {cut(name)!r}: there is no such command, so nothing was executed; choose one of "
            f"{cut(', '.join(sorted(commands)))}, or of the old class, if that is given as well"
        )
    return allowed


def _calls_in(execution: Execution, entry: LogEntry) -> list[_Call]:
    batch = execution.decode(entry)
    if batch is None:
        return []
    return [
        (message.client, sequence, *_method_of(raw))
        for message in (decoded.message for decoded in batch.messages)
        if isinstance(message, Submit)
        for sequence, raw in message.calls
    ]


def _method_of(raw: msgspec.Raw) -> tuple[str, tuple[Any, ...]]:
    name, *arguments = msgspec.msgpack.decode(raw)
    return str(name), tuple(arguments)


def _line(results: Results, client: int, sequence: int) -> ResultLine | None:
    return next((line for line in results.get(client, ()) if line[0] == sequence), None)


def _same(old: ResultLine | None, new: ResultLine | None) -> bool:
    """Return whether two results are equal. Of an exception the text may differ, as in the digest chain."""
    if old is None or new is None or old[1] != FAILED or new[1] != FAILED:
        return old == new
    kinds = [msgspec.msgpack.decode(line[2])[0] for line in (old, new)]
    return bool(kinds[0] == kinds[1])


def _told(line: ResultLine | None) -> str:
    if line is None:
        return "nothing"
    value = msgspec.msgpack.decode(line[2])
    if line[1] == RESULT:
        return cut(repr(value))
    if line[1] == FAILED:
        return cut(f"raised {value[0]}: {value[1]}")
    return cut(str(value))


def cut(text: str) -> str:
    """Return the text, shortened where it is long."""
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 3]}..."


def first_attribute(old: StateMachine, new: StateMachine) -> Comparison:
    """Return the first attribute in which two machines differ, with both values, if any does.

    Only attributes that both classes declare are compared, by what a snapshot holds of them.
    """
    if "machines" in vars(old) and "machines" in vars(new):
        return _first_part(vars(old)["machines"], vars(new)["machines"])
    classes = type(old), type(new)
    if any(map(saves_itself, classes)):
        before, after = _snapshot(old), _snapshot(new)
        return Comparison("" if before == after else "its snapshot is another one", len(before))
    hints, others = map(annotated_state, classes)
    size = 0
    for name in hints:
        if name not in others:
            continue
        values = getattr(old, name), getattr(new, name)
        before, after = (
            encoder_of(hint).encode(value)
            for hint, value in zip((hints[name], others[name]), values, strict=True)
        )
        size += len(before)
        if before != after:
            told = f"the attribute {name} was {cut(repr(values[0]))} and is {cut(repr(values[1]))}"
            return Comparison(told, size)
    return Comparison("", size)


def _snapshot(machine: StateMachine) -> bytes:
    taken = machine.snapshot()
    return taken if isinstance(taken, bytes) else b"".join(taken)


def _first_part(old: dict[str, StateMachine], new: dict[str, StateMachine]) -> Comparison:
    size = 0
    for name, part in old.items():
        if name not in new:
            continue
        found = first_attribute(part, new[name])
        size += found.size_bytes
        if found.attribute:
            told = f"in the part {name!r}: {found.attribute}" if name else found.attribute
            return Comparison(told, size)
    return Comparison("", size)
