"""Histories: what clients called, when, and how it ended. The checker's input, and a file format.

A history file is UTF-8 text, one JSON object a line, blank lines ignored. Its fields, and no others:

| field | type | |
|---|---|---|
| `client` | integer or string | the caller |
| `call` | integer | when, on one clock for the whole file, in any unit |
| `return` | integer or null | when the call ended, not before `call`; null or absent: it never did |
| `op` | string | the name of the operation, a word of the model |
| `key` | any JSON value | what it touched; null or absent: the whole object |
| `args` | list | its other arguments; absent: none |
| `outcome` | string | `ok`, `raised`, `failed` or `unknown` |
| `result` | any JSON value | `ok`: what was returned; `raised`: the exception's name; else null or absent |
| `context` | object or absent | where the call stands in the log: the fields of `RecordedContext` |

`ok` and `raised` are results, so they need a `return`. `failed` means that the operation has certainly not
been executed and never will be: it is left out of the check. `unknown` means that it is not known: the
operation may take effect at any moment after its call, even after the end of the file, or never. Two moments
that are equal are taken as concurrent.

`context` is what the simulator knows of a call beyond what its client saw. If one call has it, all that were
executed have it: an unknown outcome without a context is a command that the log does not hold. Then there are
operations called `session_ended` too, one for each session that ended, whose only argument is the client.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, BinaryIO, Final, Literal

import msgspec

from viewstamp.core.errors import ViewstampError
from viewstamp.core.ids import COMMANDS_PER_ENTRY_MAX, Seqno, fencing_token

LINE_BYTES_MAX: Final = 1 << 20
OPERATIONS_MAX: Final = 1_000_000
DEPTH_MAX: Final = 100
"""Of a value in a file: models and drawings go through values by recursion."""

OutcomeKind = Literal["ok", "raised", "failed", "unknown"]


class HistoryError(ViewstampError):
    """A history cannot be read. The message names the line and what is wrong with it."""


class RecordedContext(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine could read in `self.context` while it executed a call (`machine.context.Context`)."""

    view: Annotated[int, msgspec.Meta(ge=0)]
    seqno: Annotated[int, msgspec.Meta(ge=0)]
    """Of the entry; of a query: of the last entry applied."""
    offset: Annotated[int, msgspec.Meta(ge=0, lt=COMMANDS_PER_ENTRY_MAX)] = 0
    now: int = 0
    client: int = 0
    session: int = 0

    @property
    def token(self) -> int:
        """The place in the log, as one number."""
        return fencing_token(Seqno(self.seqno), self.offset)


class Operation(msgspec.Struct, frozen=True):
    """One call of one client. Times are on one clock, in any unit; every value inside is hashable."""

    client: int | str
    call: int
    returned: int | None
    """When it ended; None: never. `call <= returned`; not None for `ok` and `raised`."""
    op: str
    key: Any = None
    args: tuple[Any, ...] = ()
    outcome: OutcomeKind = "ok"
    result: Any = None
    """`ok`: what was returned; `raised`: the exception's name; otherwise None."""
    context: RecordedContext | None = None
    """Where it was executed. None: it was not, or its place was not recorded."""

    @property
    def answered(self) -> bool:
        """Whether the client learned a result."""
        return self.outcome in {"ok", "raised"}

    def __str__(self) -> str:
        given = ([] if self.key is None else [self.key]) + list(self.args)
        call = f"{self.op}({', '.join(show(value) for value in given)})"
        if self.outcome == "ok":
            return f"{call} -> {show(self.result)}"
        result = plain(str(self.result))
        return f"{call} -> raised {result}" if self.outcome == "raised" else f"{call} -> {self.outcome}"

    @property
    def caller(self) -> str:
        """The client, for people."""
        return plain(str(self.client))


def plain(text: str) -> str:
    """Return text that came from a file or a network without what a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def show(value: Any, width: int = 40) -> str:
    """Return a value as short text for people; a long one is cut."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def freeze(value: Any) -> Any:
    """Return an equal value that can be hashed: lists become tuples, mappings sorted tuples of pairs.

    Structs become tuples of their fields, so that a value is the same before and after a trip through a file.
    """
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, dict):
        pairs = [(freeze(key), freeze(item)) for key, item in value.items()]
        return tuple(sorted(pairs, key=lambda pair: repr(pair[0])))
    if isinstance(value, set | frozenset):
        return tuple(sorted((freeze(item) for item in value), key=repr))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, msgspec.Struct):
        return freeze(msgspec.to_builtins(value, builtin_types=(bytes,)))
    return value


class Recorder:
    """Collects the history of a run. Stamps grow strictly, so the order of the events is kept exactly.

    `begin` returns a handle; `end` it once with what the call ended in. What is never ended stays unknown.
    """

    __slots__ = ("_ended", "_open", "_stamp")

    def __init__(self) -> None:
        self._stamp = -1
        """The last stamp given out. A later event gets a later one, even in the same microsecond."""
        self._open: dict[int, Operation] = {}
        """Calls under way, by handle; the handle is the stamp of the call."""
        self._ended: list[Operation] = []

    def begin(
        self, client: int | str, op: str, key: Any = None, args: Sequence[Any] = (), *, now: int
    ) -> int:
        """Note that a client makes a call now, and return the handle for `end`."""
        stamp = self._tick(now)
        frozen = tuple(freeze(argument) for argument in args)
        self._open[stamp] = Operation(client, stamp, None, op, freeze(key), frozen, "unknown")
        return stamp

    def end(self, handle: int, outcome: OutcomeKind, result: Any = None, *, now: int) -> None:
        """Note that the call ended now. `result` as in `Operation`."""
        assert outcome in {"ok", "raised"} or result is None, (outcome, result)
        started = self._open.pop(handle)
        ended = msgspec.structs.replace(
            started, returned=self._tick(now), outcome=outcome, result=freeze(result)
        )
        self._ended.append(ended)

    def operations(self) -> list[Operation]:
        """Return all calls so far in the order in which they were made."""
        return sorted([*self._ended, *self._open.values()], key=lambda operation: operation.call)

    def _tick(self, now: int) -> int:
        self._stamp = max(now, self._stamp + 1)
        return self._stamp


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"returned": "return"}):
    """A line of the file, as the module's table describes it."""

    client: int | str
    call: int
    op: str
    outcome: OutcomeKind
    returned: int | None = None
    key: Any = None
    args: list[Any] = []
    result: Any = None
    context: RecordedContext | msgspec.UnsetType = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(_Line)
_ENCODER: Final = msgspec.json.Encoder()


def _objection(line: _Line) -> str | None:
    answered = line.outcome in {"ok", "raised"}
    if answered and line.returned is None:
        return f"the outcome is {line.outcome!r} but there is no `return`"
    if line.returned is not None and line.returned < line.call:
        return f"`return` {line.returned} is before `call` {line.call}"
    if not answered and line.result is not None:
        return f"the outcome is {line.outcome!r} but there is a `result`"
    if line.outcome == "raised" and not isinstance(line.result, str):
        return "the outcome is 'raised' but `result` is not the name of the exception"
    return None


def _is_too_deep(values: list[Any]) -> bool:
    """Return whether a value has more than `DEPTH_MAX` levels; without recursion."""
    for _ in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for value in values:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
        if not below:
            return False
        values = below
    return True


def parse_line(text: bytes) -> Operation:
    """Return the operation that a line describes.

    Raises:
        HistoryError: it describes none; the message says why, without a line number.
    """
    if len(text) > LINE_BYTES_MAX:
        raise HistoryError(f"the line is longer than {LINE_BYTES_MAX} bytes")
    try:
        line = _DECODER.decode(text)
    except RecursionError:
        raise HistoryError("the values are nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HistoryError(str(error)) from None
    if _is_too_deep([line.key, line.result, line.args]):
        raise HistoryError(f"the values are nested too deeply, more than {DEPTH_MAX}")
    objection = _objection(line)
    if objection is not None:
        raise HistoryError(objection)
    args = tuple(freeze(argument) for argument in line.args)
    return Operation(
        line.client,
        line.call,
        line.returned,
        line.op,
        freeze(line.key),
        args,
        line.outcome,
        freeze(line.result),
        None if line.context is msgspec.UNSET else line.context,
    )


def read_history(lines: Iterable[bytes]) -> list[Operation]:
    """Return the operations of a history file, in the order of its lines.

    Raises:
        HistoryError: a line is not what the format says, or there are more than `OPERATIONS_MAX`.
    """
    operations: list[Operation] = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            operations.append(parse_line(text))
        except HistoryError as error:
            raise HistoryError(f"line {number}: {error}") from None
        if len(operations) > OPERATIONS_MAX:
            raise HistoryError(f"line {number}: more than {OPERATIONS_MAX} operations")
    return operations


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, none longer than what `parse_line` refuses, with any content of the file."""
    while line := file.readline(LINE_BYTES_MAX + 2):
        yield line


def write_line(operation: Operation) -> bytes:
    """Return the operation as a line of a history file, with its line feed."""
    line = _Line(
        client=operation.client,
        call=operation.call,
        op=operation.op,
        outcome=operation.outcome,
        returned=operation.returned,
        key=operation.key,
        args=list(operation.args),
        result=operation.result,
        context=msgspec.UNSET if operation.context is None else operation.context,
    )
    return _ENCODER.encode(line) + b"\n"


def write_history(operations: Iterable[Operation], file: BinaryIO) -> None:
    """Write the operations as a history file. Bytes become base64 text, which is all that JSON can hold."""
    file.writelines(write_line(operation) for operation in operations)
