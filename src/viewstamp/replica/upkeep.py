"""A client's session: opening it, keeping it alive, noticing that it is gone. One question at a time."""

from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, NodeId

_KEEP_ALIVES_PER_LIFE = 3


class Upkeep:
    """The session of one client."""

    __slots__ = ("_life_us", "_used", "asked", "due", "number")

    def __init__(self) -> None:
        self.number: int | None = None
        """The session; None while there is none."""
        self.asked: NodeId | None = None
        """The server that was asked to open it or to keep it alive, and has not answered."""
        self.due: Instant | None = None
        """When its answer is given up; None where none was asked."""
        self._life_us = 0
        self._used: Instant | None = None
        """When the session was last used; None: it must be used at once."""

    @property
    def keep_alive_due(self) -> Instant | None:
        """When the next sign of life is due; None while there is no session or an answer is awaited."""
        if self.number is None or self.asked is not None:
            return None
        if self._used is None:
            return Instant(0)
        return Instant(self._used + self._life_us // _KEEP_ALIVES_PER_LIFE)

    def ask(self, server: NodeId, due: Instant) -> None:
        """A server is asked now."""
        self.asked, self.due = server, due

    def unanswered(self) -> None:
        """The server that was asked will not answer."""
        self.asked = self.due = None

    def opened(self, number: int, time_to_live_ms: int, now: Instant) -> None:
        """A server said that this session stands."""
        self.number, self._life_us = number, time_to_live_ms * MICROSECONDS_PER_MS
        self.unanswered()
        self.used(now)

    def used(self, now: Instant) -> None:
        """Something was sent under the session, or a server confirmed it."""
        self._used = now

    def show_at_once(self) -> None:
        """Whoever leads now may not know this client's connection: show up there."""
        self._used = None

    def lost(self) -> None:
        """The session is gone."""
        self.number = None
        self.unanswered()
