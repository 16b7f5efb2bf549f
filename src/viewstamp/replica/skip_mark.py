"""The skip mark: what an operator puts in the place of an entry that no replica can execute.

A mark stands in the log under the viewstamp of the entry that it replaces, as data that is not a batch. It is
derived from the entry alone, so equal entries get equal marks, on whichever member and at whatever time the
operator made them. Replay, followers that catch up and snapshots need no rule of their own: for all of them
the log simply holds the mark.

The mark names the calls that were in the entry, as far as the entry can be decoded, so that a client that
submits one of them again is told that it was not executed, instead of having it executed after all.
"""

from typing import Final

import msgspec

from viewstamp.core.ids import ORIGIN
from viewstamp.core.messages import NO_SESSION, UNREADABLE, Submit
from viewstamp.replica.batches import Batch, call_digest

_WORD: Final = "skipped"
_DIGEST_BYTES: Final = 16
_ENCODER: Final = msgspec.msgpack.Encoder()
_BATCH: Final[msgspec.msgpack.Decoder[Batch]] = msgspec.msgpack.Decoder(Batch)


class SkippedCalls(msgspec.Struct, frozen=True, array_like=True):
    """The calls of one message in the skipped entry that had been sent in a session."""

    client: int
    session: int
    calls: list[tuple[int, int]]
    """(sequence number, digest of the encoded call)."""


class SkipMark(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The data of a skip mark."""

    word: str
    digest: bytes
    """Of the data of the entry that stood here (`digest_of`)."""
    skipped: list[SkippedCalls]


_MARK: Final[msgspec.msgpack.Decoder[SkipMark]] = msgspec.msgpack.Decoder(SkipMark)
_PARTS: Final[msgspec.msgpack.Decoder[list[msgspec.Raw]]] = msgspec.msgpack.Decoder(list[msgspec.Raw])
_BATCH_LENGTHS: Final = (len(Batch.__struct_fields__) - 1, len(Batch.__struct_fields__))
"""Without and with a declaration."""
_CHECK_PLACE: Final = Batch.__struct_fields__.index("check")
_NO_CHECK: Final = msgspec.Raw(_ENCODER.encode((ORIGIN.seqno, 0)))
"""What every replica agrees with: the digest before the first entry."""
PREFIX: Final = _ENCODER.encode([_WORD, 0, 0])[: 2 + len(_WORD)]
"""What a mark begins with, and no batch does: an array of three whose first element is the word."""


def digest_of(data: bytes) -> bytes:
    """Return the digest by which an entry's data is compared between members."""
    import hashlib  # it loads a library that no server needs: nobody digests an entry but an operator's tool

    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def make_skip_mark(data: bytes) -> bytes:
    """Return the data of the mark that replaces an entry with this data."""
    try:
        messages = _BATCH.decode(data).messages
    except UNREADABLE:
        messages = []
    skipped = [
        SkippedCalls(
            message.client, message.session, [(sequence, call_digest(raw)) for sequence, raw in message.calls]
        )
        for message in messages
        if isinstance(message, Submit) and message.session != NO_SESSION
    ]
    return _ENCODER.encode(SkipMark(_WORD, digest_of(data), skipped))


def without_check(data: bytes) -> bytes:
    """Return an entry's data without its leader's digest of earlier results.

    For the entries behind a skipped one that are in the log already: their leader may have executed what no
    replica will have executed now. Whatever is not a batch comes back as it is.
    """
    try:
        parts = _PARTS.decode(data)
    except UNREADABLE:
        return data
    if len(parts) not in _BATCH_LENGTHS:
        return data
    parts[_CHECK_PLACE] = _NO_CHECK
    return _ENCODER.encode(parts)


def read_skip_mark(data: bytes) -> SkipMark | None:
    """Return the mark that this data is; None: it is something else."""
    if not data.startswith(PREFIX):
        return None
    try:
        return _MARK.decode(data)
    except UNREADABLE:
        return None
