"""Taking over a newer log, entry by entry, before a takeover goes on."""

from viewstamp.core.ids import NodeId


class Adoption:
    """Which log, and how far it has come. Everything the own server has committed is in it already."""

    __slots__ = ("_asked_up_to", "_window", "next_index", "source", "wanted")

    def __init__(self, source: NodeId, committed_index: int, last_index: int, window: int) -> None:
        self.source = source
        """Whose log it is; nobody but the primary could change it, and that is us."""
        self.next_index = committed_index + 1
        """The entry that must come next; next_index <= wanted + 1."""
        self.wanted = last_index
        """Where that log ends."""
        self._window = window
        self._asked_up_to = committed_index

    @property
    def is_complete(self) -> bool:
        """Whether all of it has come."""
        return self.next_index > self.wanted

    @property
    def must_ask(self) -> bool:
        """Whether everything that was asked for has come, and there is more."""
        return self._asked_up_to < self.next_index <= self.wanted

    def ask(self) -> int:
        """Return from where on entries are to be asked for now."""
        self._asked_up_to = min(self.wanted, self.next_index + self._window - 1)
        return self.next_index
