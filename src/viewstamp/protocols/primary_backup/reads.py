"""To whom linearizable reads are answered: to the primary's own replica. Other members refuse them.

A newer epoch needs a majority. So a majority that is still in this epoch after the reads arrived shows that
nothing newer was acknowledged before. Stale reads are answered by any member.
"""

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.outbox import Outbox


class OwnReads:
    """The reads of this node's replica; satisfies `shipping.reads.Readers`."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def answer(self, token: ReadToken, index: int) -> None:  # noqa: ARG002  all of it is applied here
        """Answer it from what is applied."""
        self._outbox.emit(Answer(token))

    def refuse(self, token: ReadToken) -> None:
        """Ask somebody else."""
        self._outbox.emit(Refuse(token))
