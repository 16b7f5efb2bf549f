"""Entries of the log are batches of clients' messages: validated, gathered, proposed and read back here.

An entry's data is the msgpack array

    [format, level, log time, [checked seqno, digest], [message, ...], [principal, ...], declaration]

in which each message stands as this program encodes it: no byte of a client enters the log. The leader
validates, decodes and encodes a message when it arrives; it waits in the `BatchBuffer`. The entry that it
becomes part of is kept decoded in `InFlightBatches` until it is applied. Every other replica decodes the
entry when it applies it, so nothing may be proposed that they could not read: the bytes of each message were
decoded when it came, by the type that stands in the decoder of entries, or the whole entry is decoded before.

All calls of a message, and all messages of an entry, are decoded and encoded in one pass (`Decoders`): for
each call apart it costs three times as much.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeAlias, Union

import msgspec
import xxhash

from viewstamp.core.ids import COMMANDS_PER_ENTRY_MAX, LEVEL, LEVEL_MIN, ClientAddress
from viewstamp.core.messages import (
    MESSAGE_CALLS_MAX,
    UNREADABLE,
    CloseSession,
    KeepAlive,
    Logged,
    OpenSession,
    QueryRequest,
    Submit,
)
from viewstamp.core.principals import ANONYMOUS
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.versions import Declaration, NewerCodeNeeded

FORMAT: Final = 1
"""Of entries. An entry of another format is refused by name."""

call_digest = xxhash.xxh3_64_intdigest
"""Digest of an encoded call, to tell a copy from another command under the same number."""

DecodedCall: TypeAlias = tuple[int, Any]
"""(sequence number, arguments struct). The arguments are None where they cannot be decoded: INVALID."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """An entry's data, as it stands in the log."""

    format: int
    level: int
    """The level of features that the leader knew to be in force, or raises with this entry."""
    log_time: int
    """The leader's log time when it proposed this, in microseconds."""
    check: tuple[int, int]
    """(seqno, digest of results up to it) of the leader when it proposed this."""
    messages: list[Logged]
    principals: list[str]
    """On whose behalf each message came, as the server proved that admitted it (`core.principals`).

    One alone stands for all messages. Empty: all of them are anonymous.
    """
    declares: Declaration | None = None
    """Only written by the first entries of a log and by those that raise a version; since level 1."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What every format begins with."""

    format: int
    level: int


class BatchUnreadable(Exception):
    """A committed entry is not a batch that this version can execute."""


class DecodedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that is ordered by the log, with its calls decoded."""

    message: Logged
    calls: Sequence[DecodedCall]
    """One for each of `message.calls`, in the same order; none unless it is a `Submit`."""
    principal: str = ANONYMOUS
    """On whose behalf, as the admitting server has proved it."""
    source: ClientAddress = ClientAddress(0)
    """The connection that it came over; only meant for what was gathered here."""
    encoded: bytes = b""
    """As it enters the log; only kept for what was gathered here."""
    read: bytes | None = None
    """The bytes that `calls` were decoded from, in the form in which this program encodes them."""


class DecodedBatch(msgspec.Struct, frozen=True, gc=False):
    """An entry's data and what it means."""

    data: bytes
    log_time: int
    """As in `Batch`."""
    check: tuple[int, int]
    """As in `Batch`."""
    messages: list[DecodedMessage]
    level: int = LEVEL
    """As in `Batch`."""
    declares: Declaration | None = None
    """As in `Batch`."""


_BATCH: Final[msgspec.msgpack.Decoder[Batch]] = msgspec.msgpack.Decoder(Batch)
_HEAD: Final[msgspec.msgpack.Decoder[_Head]] = msgspec.msgpack.Decoder(_Head)
_SUBMIT: Final[msgspec.msgpack.Decoder[Submit]] = msgspec.msgpack.Decoder(Submit)
_ENCODER: Final = msgspec.msgpack.Encoder()
_COMMANDS_MAX: Final = COMMANDS_PER_ENTRY_MAX // 2
"""Of one entry. Each takes a byte of it at least, so short entries need not be counted."""


def encode_logged(message: Logged) -> bytes:
    """Return a message about a session as it enters the log."""
    return _ENCODER.encode(message)


def encode_batch(
    log_time: int,
    check: tuple[int, int],
    messages: list[bytes],
    level: int = LEVEL,
    declares: Declaration | None = None,
    principals: Sequence[str] = (),
) -> bytes:
    """Return the data of an entry made of encoded messages; `principals` as in `Batch`."""
    raw = [msgspec.Raw(message) for message in messages]
    if declares is None:
        return _ENCODER.encode((FORMAT, level, log_time, check, raw, principals))
    return _ENCODER.encode((FORMAT, level, log_time, check, raw, principals, declares))


def principals_of(messages: Sequence[DecodedMessage]) -> Sequence[str]:
    """Return what an entry made of these messages names as its principals, in the shortest form."""
    principals = [message.principal for message in messages]
    if not principals:
        return ()
    first = principals[0]
    if principals.count(first) < len(principals):
        return principals
    return () if first == ANONYMOUS else (first,)


class Decoders:
    """What reads the commands of one class: one call, all calls of a message, all of an entry."""

    __slots__ = ("call", "entry", "message", "queries")

    def __init__(self, definition: MachineDefinition) -> None:
        self.call: Callable[[Any], Any] = definition.decoder("command")
        """Turns an encoded call into its arguments, or raises `UNREADABLE`."""
        submit = _typed(
            Submit, _calls_of(definition.arguments_of("command"), Annotated[int, msgspec.Meta(ge=1)])
        )
        entry = _typed_batch(submit)
        self.message: Callable[[bytes], Any] = msgspec.msgpack.Decoder(submit).decode
        """Turns an encoded `Submit` into one whose `calls` are of type `DecodedCall`, numbered from 1."""
        self.entry: Callable[[bytes], Any] = msgspec.msgpack.Decoder(entry).decode
        """Turns an entry's data into a `Batch` whose messages are such, or the others of `Logged`."""
        queries = _typed(QueryRequest, _calls_of(definition.arguments_of("query"), int))
        self.queries: Callable[[bytes], Any] = msgspec.msgpack.Decoder(queries).decode
        """Turns an encoded `QueryRequest` into one whose `calls` are pairs of a number and arguments."""

    @staticmethod
    def of(definition: MachineDefinition) -> "Decoders":
        """Return those of a class, made once."""
        known = _DECODERS.get(definition)
        if known is None:
            known = _DECODERS[definition] = Decoders(definition)
        return known


_DECODERS: Final[dict[MachineDefinition, Decoders]] = {}


def _calls_of(arguments: tuple[type[msgspec.Struct], ...], number: Any) -> Any:
    """Return the type of the calls of a message, with these arguments in place of any bytes."""
    if not arguments:
        return Annotated[list[int], msgspec.Meta(max_length=0)]
    call: Any = tuple.__class_getitem__((number, Union[arguments]))  # noqa: UP007  made while running
    return Annotated[list[call], msgspec.Meta(max_length=MESSAGE_CALLS_MAX)]


def _typed(message: type[msgspec.Struct], calls: Any) -> type[msgspec.Struct]:
    """Return a message whose last field, `calls`, is of this type."""
    fields = [(field.name, field.type) for field in msgspec.structs.fields(message)]
    assert fields[-1][0] == "calls", fields
    return msgspec.defstruct(
        message.__name__,
        [*fields[:-1], ("calls", calls)],
        tag=message.__struct_config__.tag,
        array_like=True,
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
    )


def _typed_batch(submit: type[msgspec.Struct]) -> type[msgspec.Struct]:
    message: Any = Union[submit, OpenSession, KeepAlive, CloseSession]  # noqa: UP007  made while running
    before = Batch.__struct_fields__[: Batch.__struct_fields__.index("messages")]
    skipped: list[Any] = [(name, msgspec.Raw) for name in before]
    return msgspec.defstruct("Batch", [*skipped, ("messages", list[message])], array_like=True)


def decode_batch(data: bytes, decoders: Decoders) -> DecodedBatch:
    """Return an entry's data decoded.

    Raises:
        BatchUnreadable: it is not a batch, or one of an older format.
        NewerCodeNeeded: it is of a newer format or of a higher level.
    """
    try:
        batch = _BATCH.decode(data)
    except UNREADABLE as error:
        _require_known(data)
        raise BatchUnreadable(f"an entry of the log is not a batch: {error}") from None
    if batch.format != FORMAT or not LEVEL_MIN <= batch.level <= LEVEL:
        _require_known(data)
    messages = _decoded_messages(data, batch.messages, decoders)
    if batch.principals:
        messages = _with_principals(messages, batch.principals)
    if len(data) >= _COMMANDS_MAX and sum(1 + len(each.calls) for each in messages) >= _COMMANDS_MAX:
        raise BatchUnreadable("an entry of the log holds more commands than any replica proposes")
    return DecodedBatch(data, batch.log_time, batch.check, messages, batch.level, batch.declares)


def _decoded_messages(data: bytes, messages: list[Logged], decoders: Decoders) -> list[DecodedMessage]:
    try:
        typed = decoders.entry(data).messages
    except UNREADABLE:
        # Its leader could decode it, so the class has changed since: every replica answers INVALID alike.
        return [DecodedMessage(message, _each_call(message, decoders.call)) for message in messages]
    return [
        DecodedMessage(message, each.calls if type(message) is Submit else ())
        for message, each in zip(messages, typed, strict=True)
    ]


def _require_known(data: bytes) -> None:
    """Raise where an entry is of another format or level than this version knows."""
    try:
        head = _HEAD.decode(data)
    except UNREADABLE:
        return
    if head.format != FORMAT:
        reason = f"an entry of the log has format {head.format}; this version reads {FORMAT}"
        raise NewerCodeNeeded(reason) if head.format > FORMAT else BatchUnreadable(reason)
    if not LEVEL_MIN <= head.level <= LEVEL:
        reason = f"an entry of the log has level {head.level}; this version knows {LEVEL_MIN} to {LEVEL}"
        raise NewerCodeNeeded(reason) if head.level > LEVEL else BatchUnreadable(reason)


def _with_principals(messages: list[DecodedMessage], principals: list[str]) -> list[DecodedMessage]:
    if len(principals) == 1:
        principals *= len(messages)
    if len(principals) != len(messages):
        raise BatchUnreadable("an entry of the log names principals for some of its messages only")
    return [
        DecodedMessage(each.message, each.calls, principal)
        for each, principal in zip(messages, principals, strict=True)
    ]


def _each_call(message: Logged, decode: Callable[[Any], Any]) -> Sequence[DecodedCall]:
    if not isinstance(message, Submit):
        return ()
    return [(sequence, _decoded(raw, decode)) for sequence, raw in message.calls]


def _decoded(raw: msgspec.Raw, decode: Callable[[Any], Any]) -> Any:
    try:
        return decode(raw)
    except UNREADABLE:
        return None


def _weight(message: DecodedMessage) -> int:
    """How many commands it counts for: each costs a place in its entry, and so does a message without any."""
    return len(message.calls) or 1


class BatchBuffer:
    """The messages that wait to be proposed, within limits."""

    __slots__ = ("_options", "commands", "messages", "size_bytes")

    def __init__(self, options: ReplicaOptions) -> None:
        self._options = options
        self.messages: deque[DecodedMessage] = deque()
        """Read-only for callers, as the next two are."""
        self.commands = 0
        """How many commands wait; at most `gathered_commands_max`."""
        self.size_bytes = 0
        """How many bytes they have; at most `gathered_bytes_max`."""

    def __len__(self) -> int:
        return len(self.messages)

    def add(self, message: DecodedMessage) -> bool:
        """Store a message, or return False where there is no room for it."""
        options = self._options
        commands = self.commands + (len(message.calls) or 1)
        size = self.size_bytes + len(message.encoded)
        if commands > options.gathered_commands_max or size > options.gathered_bytes_max:
            return False
        self.messages.append(message)
        self.commands, self.size_bytes = commands, size
        return True

    def take_batch(self) -> list[DecodedMessage]:
        """Return the next messages that fit into one entry: at least one, if any wait."""
        options = self._options
        if self.commands <= options.batch_commands_max and self.size_bytes <= options.batch_bytes_max:
            return self.take_all()
        taken: list[DecodedMessage] = []
        commands = size = 0
        while self.messages:
            head = self.messages[0]
            commands += _weight(head)
            size += len(head.encoded)
            if taken and (commands > options.batch_commands_max or size > options.batch_bytes_max):
                break
            taken.append(self._drop_first())
        return taken

    def take_all(self) -> list[DecodedMessage]:
        """Return everything that waits."""
        taken = list(self.messages)
        self.messages.clear()
        self.commands = self.size_bytes = 0
        return taken

    def _drop_first(self) -> DecodedMessage:
        first = self.messages.popleft()
        self.commands -= _weight(first)
        self.size_bytes -= len(first.encoded)
        return first


def _are_read(messages: list[DecodedMessage]) -> bool:
    """Return whether the very bytes that enter the log were decoded, by the type that entries have."""
    for each in messages:  # noqa: SIM110  a generator costs a call for each
        if each.encoded is not each.read:
            return False
    return True


def _means(batch: DecodedBatch) -> tuple[Any, ...]:
    said = [(each.message, list(each.calls), each.principal) for each in batch.messages]
    return batch.log_time, batch.check, batch.level, batch.declares, said


IN_FLIGHT_MAX: Final = 1_024
"""Own batches kept decoded until they are applied; no core has as many in flight."""


class InFlightBatches:
    """The batches that this replica proposed since the last redirect and has not applied, in their order."""

    __slots__ = ("_batches", "_decoders", "_strict")

    def __init__(self, definition: MachineDefinition, *, strict: bool = False) -> None:
        """With `strict` each entry is decoded as others will decode it, and compared: for tests."""
        self._strict = strict
        self._decoders = Decoders.of(definition)
        self._batches: deque[DecodedBatch] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def propose(
        self,
        log_time: int,
        check: tuple[int, int],
        messages: list[DecodedMessage],
        level: int = LEVEL,
        declares: Declaration | None = None,
    ) -> tuple[list[bytes], list[DecodedMessage]]:
        """Return the data of the entries that these messages make, and the messages that may not enter a log.

        What cannot be read would end all replicas, and again at each restart. So an entry is decoded before
        it is proposed, as every replica will decode it, unless each of its messages has been already. An
        unreadable message costs the others their common entry.
        """
        encoded = [message.encoded for message in messages]
        data = encode_batch(log_time, check, encoded, level, declares, principals_of(messages))
        if declares is None and len(data) < _COMMANDS_MAX and _are_read(messages):
            return [self._keep(DecodedBatch(data, log_time, check, messages, level))], []
        try:
            batch = decode_batch(data, self._decoders)
        except BatchUnreadable:
            if len(messages) == 1:
                return [], messages
            parts = [self.propose(log_time, check, [message], level, declares) for message in messages]
            return [data for entries, _ in parts for data in entries], [
                bad for _, kept in parts for bad in kept
            ]
        return [self._keep(batch)], []

    def _keep(self, batch: DecodedBatch) -> bytes:
        assert not self._strict or _means(batch) == _means(decode_batch(batch.data, self._decoders)), batch
        if len(self._batches) == IN_FLIGHT_MAX:
            self._batches.popleft()  # it will be decoded from the log, which is slower and not wrong
        self._batches.append(batch)
        return batch.data

    def read(self, data: bytes) -> DecodedBatch:
        """Return the batch of an entry that is applied now; one of these is decoded already.

        Raises:
            BatchUnreadable, NewerCodeNeeded: as `decode_batch`.
        """
        batches = self._batches
        for place, batch in enumerate(batches):
            if batch.data == data:
                # Those before it have lost their places in the log to another leader's entries.
                for _ in range(place + 1):
                    batches.popleft()
                return batch
        return decode_batch(data, self._decoders)

    def take_all(self) -> list[DecodedBatch]:
        """Return all of them, and forget them: another leader decides whether they are committed."""
        taken = list(self._batches)
        self._batches.clear()
        return taken
