"""A client's session: opening it, keeping it alive, noticing that it is gone. One question at a time."""

from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, NodeId

_KEEP_ALIVES_PER_LIFE = 3
_QUESTIONS_PER_LIFE = 2
"""At least: however much is sent under the session, the client asks this often whether it lives."""
_SURE_PARTS, _LIFE_PARTS = 9, 10
"""The part of a time to live that the client counts on: two clocks differ in speed by less than the rest."""
_QUESTIONS_MAX = 8
"""Questions whose answers are waited for; older ones are forgotten."""


class ClientSession:
    """The session of one client."""

    __slots__ = (
        "_confirmed",
        "_last_question",
        "_life_us",
        "_questions",
        "_used",
        "asked",
        "due",
        "number",
        "wanted_ms",
    )

    def __init__(self, wanted_ms: int = 0) -> None:
        self.wanted_ms = wanted_ms
        """The time to live that the cluster is asked for; 0: its own."""
        self.number: int | None = None
        """The session; None while there is none."""
        self.asked: NodeId | None = None
        """The server that was asked to open it or to keep it alive, and has not answered."""
        self.due: Instant | None = None
        """When its answer is given up; None where none was asked."""
        self._life_us = 0
        self._used: Instant | None = None
        """When the session was last used; None: it must be used at once."""
        self._last_question = 0
        self._questions: dict[int, Instant] = {}
        """When each question was sent that may still be answered, by its number."""
        self._confirmed = Instant(0)
        """When the last question was sent whose answer was that the session lives."""

    @property
    def keep_alive_due(self) -> Instant | None:
        """When the next `KeepAlive` is due; None while there is no session or an answer is awaited."""
        if self.number is None or self.asked is not None:
            return None
        if self._used is None:
            return Instant(0)
        unused = self._used + self._life_us // _KEEP_ALIVES_PER_LIFE
        return Instant(min(unused, self._confirmed + self._life_us // _QUESTIONS_PER_LIFE))

    @property
    def sure_until(self) -> Instant | None:
        """Until when the session lives for certain, unless the cluster has too many; None: there is none.

        Log time never runs faster than a clock, and the session was used after the question was sent.
        """
        if self.number is None:
            return None
        return Instant(self._confirmed + self._life_us * _SURE_PARTS // _LIFE_PARTS)

    def ask(self, server: NodeId, due: Instant, now: Instant) -> int:
        """Record that a server is asked now, and should answer by `due`; return the question's number."""
        assert self.asked is None, "one question at a time"
        self.asked, self.due = server, due
        self._last_question += 1
        self._questions[self._last_question] = now
        if len(self._questions) > _QUESTIONS_MAX:
            del self._questions[next(iter(self._questions))]
        return self._last_question

    def unanswered(self) -> None:
        """The server that was asked will not answer."""
        self.asked = self.due = None

    def opened(self, number: int, time_to_live_ms: int, question: int, now: Instant) -> bool:
        """A server answered this question: the session lives. Return False where the answer is of no use.

        An answer that comes late, or twice, must not be taken for one to what was asked since: a client that
        was stopped for longer than its session lives would count on it again.
        """
        asked_at = self._questions.get(question)
        if asked_at is None or self.number not in {None, number}:
            return False
        self.number, self._life_us = number, time_to_live_ms * MICROSECONDS_PER_MS
        self._confirmed = asked_at
        self._questions = {later: at for later, at in self._questions.items() if later > question}
        self.unanswered()
        self.used(now)
        return True

    def used(self, now: Instant) -> None:
        """Something was sent under the session, or a server confirmed it."""
        self._used = now

    def use_at_once(self) -> None:
        """The new leader may not know this client's connection: send it something now."""
        self._used = None

    def want(self, time_to_live_ms: int) -> None:
        """Ask for another time to live. Until a server has answered, the old one is counted on."""
        self.wanted_ms = time_to_live_ms
        self.use_at_once()

    def lost(self) -> None:
        """The session is gone."""
        self.number = None
        self._confirmed = Instant(0)
        self._questions.clear()
        self.unanswered()
