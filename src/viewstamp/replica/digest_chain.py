"""The rolling digest of results, by which a replica that differs is found.

`DigestChain` finds a replica whose state differs. Each replica chains a digest of all results of its machine;
the leader writes the digest at a recent position into each batch, and a replica that had another one there
differs from the leader. The chain covers results, kinds of failures and notifications, but not the text of an
exception, in which an object's address may stand without any harm.
"""

from typing import Final

import xxhash

from viewstamp.core.ids import Seqno

DIGESTS_KEPT: Final = 4_096
"""Positions that can be compared: more than a leader can have proposed beyond what it has applied."""


class DigestChain:
    """The rolling digest and the last positions it had."""

    __slots__ = ("_history", "digest", "seqno")

    def __init__(self, seqno: Seqno, digest: int) -> None:
        self.seqno = seqno
        self.digest = digest
        """Digest of all results up to and including the entry at `seqno`."""
        self._history: dict[int, int] = {seqno: digest}
        """By position, contiguous up to `seqno`."""

    @property
    def position(self) -> tuple[int, int]:
        """What a leader writes into its batches."""
        return self.seqno, self.digest

    def extend(self, seqno: Seqno, outcomes: list[bytes]) -> None:
        """Chain the outcomes of the entry at `seqno`, the one after the last."""
        assert seqno == self.seqno + 1, (seqno, self.seqno)
        if outcomes:
            self.digest = xxhash.xxh3_64_intdigest(b"".join(outcomes), self.digest)
        self.seqno = seqno
        self._history[seqno] = self.digest
        self._history.pop(seqno - DIGESTS_KEPT, None)

    def at(self, seqno: int) -> int | None:
        """Return the digest at a position; None where it is not known here, or no longer."""
        return self._history.get(seqno)

    def contradicts(self, check: tuple[int, int]) -> bool:
        """Return whether the leader had another digest at a position that is still known here."""
        seqno, digest = check
        known = self._history.get(seqno)
        return known is not None and known != digest
