"""Entries of the log are batches: the clients' own messages, gathered until the core takes them.

A batch is the msgpack array [log time, [checked seqno, digest], [message, ...]]. Each message is checked and
decoded once when it arrives at the leader, and its bytes are never encoded again.

The batches that this replica proposed and that are not applied yet, so that none is decoded twice.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
import xxhash

from viewstamp.core.ids import COMMANDS_PER_ENTRY_MAX, ClientAddress
from viewstamp.core.messages import UNREADABLE, Logged, Submit
from viewstamp.machine.definition import InvalidCall, MachineDefinition
from viewstamp.replica.options import ReplicaOptions

_digest = xxhash.xxh3_64_intdigest


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """An entry's data."""

    log_time: int
    """The leader's log time when it proposed this, in microseconds."""
    check: tuple[int, int]
    """(seqno, digest of results up to it) of the leader when it proposed this."""
    messages: list[Logged]


class BatchUnreadable(Exception):
    """A committed entry is not a batch: another version wrote it, or this one is broken."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """One command of a message, decoded. `arguments` is None where it cannot be: it is answered INVALID."""

    sequence: int
    digest: int
    """Of the encoded call, to tell a copy from another command under the same number."""
    arguments: Any


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A message that is ordered by the log, with its calls decoded (none unless it is a `Submit`)."""

    message: Logged
    calls: list[Call]


class Gathered(msgspec.Struct, frozen=True, gc=False):
    """A message that waits to be proposed."""

    source: ClientAddress
    prepared: Prepared
    encoded: bytes
    weight: int = 1
    """How many commands it counts for: each costs a place in its entry, and so does a message without any."""


_BATCH: Final[msgspec.msgpack.Decoder[Batch]] = msgspec.msgpack.Decoder(Batch)
_ENCODER: Final = msgspec.msgpack.Encoder()
_COMMANDS_MAX: Final = COMMANDS_PER_ENTRY_MAX // 2
"""Of one entry. Each takes a byte of it at least, so short entries need not be counted."""


def encode_batch(log_time: int, check: tuple[int, int], messages: list[bytes]) -> bytes:
    """Return the data of an entry made of encoded messages."""
    return _ENCODER.encode((log_time, check, [msgspec.Raw(message) for message in messages]))


def decode_batch(data: bytes, definition: MachineDefinition) -> tuple[Batch, list[Prepared]]:
    """Return an entry's batch and its messages with decoded calls.

    Raises:
        BatchUnreadable: it is not a batch.
    """
    try:
        batch = _BATCH.decode(data)
    except UNREADABLE as error:
        raise BatchUnreadable(f"an entry of the log is not a batch: {error}") from None
    decode = definition.decoder("command")
    prepared = [
        Prepared(message, _calls(message, decode) if type(message) is Submit else [])
        for message in batch.messages
    ]
    if len(data) >= _COMMANDS_MAX and sum(1 + len(each.calls) for each in prepared) >= _COMMANDS_MAX:
        raise BatchUnreadable("an entry of the log holds more commands than any replica proposes")
    return batch, prepared


def _calls(message: Submit, decode: Callable[[Any], Any]) -> list[Call]:
    try:
        return [Call(sequence, _digest(raw), decode(raw)) for sequence, raw in message.calls]
    except UNREADABLE:
        return [Call(sequence, _digest(raw), _decoded(raw, decode)) for sequence, raw in message.calls]


def _decoded(raw: msgspec.Raw, decode: Callable[[Any], Any]) -> Any:
    try:
        return decode(raw)
    except UNREADABLE:
        return None


class ValidatedSubmit(msgspec.Struct, frozen=True, gc=False):
    """A `Submit` after its check: what may enter the log, if anything, and why the rest may not."""

    gathered: Gathered | None
    invalid: list[tuple[int, str]]
    """(sequence number, explanation)."""


class SubmitValidator:
    """Checks what clients submit before it enters the log."""

    __slots__ = ("_bytes_max", "_decode", "_definition")

    def __init__(self, definition: MachineDefinition, options: ReplicaOptions) -> None:
        self._definition = definition
        self._decode = definition.decoder("command")
        self._bytes_max = options.command_bytes_max

    def examine(self, source: ClientAddress, message: Submit, encoded: bytes) -> ValidatedSubmit:
        """Decode all calls; where some are invalid, encode the message again without them."""
        try:
            if (
                len(encoded) <= self._bytes_max
                and min([sequence for sequence, _ in message.calls], default=1) > 0
            ):
                decode = self._decode
                calls = [Call(sequence, _digest(raw), decode(raw)) for sequence, raw in message.calls]
                return ValidatedSubmit(
                    Gathered(source, Prepared(message, calls), encoded, len(calls) or 1), []
                )
        except UNREADABLE:
            pass  # at least one call is invalid: look at each
        return self._sift(source, message)

    def _sift(self, source: ClientAddress, message: Submit) -> ValidatedSubmit:
        calls: list[Call] = []
        kept: list[tuple[int, msgspec.Raw]] = []
        invalid: list[tuple[int, str]] = []
        for sequence, raw in message.calls:
            try:
                calls.append(self._check(sequence, raw))
                kept.append((sequence, raw))
            except InvalidCall as error:
                invalid.append((sequence, str(error)))
        if not kept:
            return ValidatedSubmit(None, invalid)
        remaining = msgspec.structs.replace(message, calls=kept)
        encoded = _ENCODER.encode(remaining)
        return ValidatedSubmit(Gathered(source, Prepared(remaining, calls), encoded, len(calls)), invalid)

    def _check(self, sequence: int, raw: msgspec.Raw) -> Call:
        if sequence <= 0:
            raise InvalidCall("sequence numbers start from 1")
        if len(memoryview(raw)) > self._bytes_max:
            raise InvalidCall(f"the call is longer than {self._bytes_max} bytes")
        return Call(sequence, _digest(raw), self._definition.decode("command", raw))


class BatchBuffer:
    """The messages that wait to be proposed, within limits."""

    __slots__ = ("_bytes", "_commands", "_options", "messages")

    def __init__(self, options: ReplicaOptions) -> None:
        self._options = options
        self.messages: deque[Gathered] = deque()
        """Look, do not touch."""
        self._commands = 0
        """Sum of the weights of `messages`."""
        self._bytes = 0
        """Sum of the lengths of `messages`."""

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def commands(self) -> int:
        """How many commands wait; at most `gathered_commands_max`."""
        return self._commands

    @property
    def size_bytes(self) -> int:
        """How many bytes they have; at most `gathered_bytes_max`."""
        return self._bytes

    def add(self, gathered: Gathered) -> bool:
        """Take a message in, or return False where there is no room for it."""
        options = self._options
        commands = self._commands + gathered.weight
        size = self._bytes + len(gathered.encoded)
        if commands > options.gathered_commands_max or size > options.gathered_bytes_max:
            return False
        self.messages.append(gathered)
        self._commands, self._bytes = commands, size
        return True

    def take_batch(self) -> list[Gathered]:
        """Return the next messages that fit into one entry: at least one, if any wait."""
        options = self._options
        if self._commands <= options.batch_commands_max and self._bytes <= options.batch_bytes_max:
            return self.take_all()
        taken: list[Gathered] = []
        commands = size = 0
        while self.messages:
            head = self.messages[0]
            commands += head.weight
            size += len(head.encoded)
            if taken and (commands > options.batch_commands_max or size > options.batch_bytes_max):
                break
            taken.append(self._drop_first())
        return taken

    def take_all(self) -> list[Gathered]:
        """Return everything that waits, because it cannot be proposed here any more."""
        taken = list(self.messages)
        self.messages.clear()
        self._commands = self._bytes = 0
        return taken

    def _drop_first(self) -> Gathered:
        first = self.messages.popleft()
        self._commands -= first.weight
        self._bytes -= len(first.encoded)
        return first


IN_FLIGHT_MAX: Final = 1_024
"""Own batches kept decoded until they are applied; no core has so many under way."""


class InFlightBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch as it was proposed, decoded already."""

    data: bytes
    batch: Batch
    messages: list[Prepared]


class InFlightBatches:
    """Own batches in the order proposed, since the last redirect."""

    __slots__ = ("_offers",)

    def __init__(self) -> None:
        self._offers: deque[InFlightBatch] = deque()

    def __len__(self) -> int:
        return len(self._offers)

    def add(self, offer: InFlightBatch) -> None:
        """Remember a batch that is proposed now."""
        if len(self._offers) == IN_FLIGHT_MAX:
            self._offers.popleft()
        self._offers.append(offer)

    def find(self, data: bytes) -> InFlightBatch | None:
        """Return the batch of an entry that is applied, if it is one of these; those before it are over.

        They have lost their places to another leader's.
        """
        offers = self._offers
        for place, offer in enumerate(offers):
            if offer.data == data:
                for _ in range(place + 1):
                    offers.popleft()
                return offer
        return None

    def take_all(self) -> list[InFlightBatch]:
        """Return all of them, and forget them: another leader decides what becomes of them."""
        taken = list(self._offers)
        self._offers.clear()
        return taken
