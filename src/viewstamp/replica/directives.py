"""The directives of operators that are in flight, and who is answered when one was carried out."""

from typing import Final

from viewstamp.core.events import DirectiveToken
from viewstamp.core.ids import ClientAddress

OWN_ADDRESS: Final = ClientAddress(0)
"""Under which a node itself gives directives to its replica; connections count from 1."""
NOT_AN_OPERATOR: Final = (
    "this needs an operator: not carried out; show an operator's certificate, or the cluster's secret"
)
TOO_MANY: Final = "too many directives are in flight: not carried out, try again later"


class Directives:
    """Draws a token for each directive and keeps whom to answer."""

    __slots__ = ("_asked", "_last", "_max")

    def __init__(self, directives_max: int) -> None:
        self._max = directives_max
        self._asked: dict[DirectiveToken, tuple[ClientAddress, int]] = {}
        self._last = 0

    def __len__(self) -> int:
        """Return how many are in flight."""
        return len(self._asked)

    def begin(self, source: ClientAddress, request: int) -> DirectiveToken | None:
        """Return the token of a new directive; None: too many are in flight."""
        if len(self._asked) >= self._max:
            return None
        self._last += 1
        token = DirectiveToken(self._last)
        self._asked[token] = source, request
        return token

    def end(self, token: DirectiveToken) -> tuple[ClientAddress, int]:
        """Return whom to answer, and under which request number, and forget it."""
        assert token in self._asked, "the core settles each directive once"
        return self._asked.pop(token)
