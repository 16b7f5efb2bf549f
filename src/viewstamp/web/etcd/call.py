"""One request: the client that makes it, and the header of its answer."""

from collections.abc import Callable

from viewstamp.clients.coordination import Coordination
from viewstamp.services.store import CoordinationStore
from viewstamp.web.etcd.answers import Answer

Header = Callable[[int], Answer]
"""Returns the header of an answer, for a revision of the store; 0: the last one that the gateway has seen."""


class Call:
    """What a handler gets beside the request."""

    __slots__ = ("_header", "client")

    def __init__(self, client: Coordination, header: Header) -> None:
        self.client = client
        self._header = header

    @property
    def store(self) -> type[CoordinationStore]:
        """The store's methods, on behalf of the caller."""
        return self.client.store

    def header(self, revision: int = 0) -> Answer:
        """Return the header of the answer; revision 0: the last one that the gateway has seen."""
        return self._header(revision)
