"""Exactly-once: what the cluster remembers of each client. Replicated state, so all of it is deterministic.

Rules of this file:

- a session's number is the fencing token of the entry that opened it: never used twice;
- a client number has one session at a time; opening again while it lives returns the same one;
- a result is kept until the client acknowledges it, and every copy of its command is answered with it;
- each session expires by its own time to live; two that expire by the same entry end in the order of the
  moments at which they were due;
- where a limit is reached, the new session or command is refused: what lives within its time is not ended;
- time is log time.

Source: Ongaro, "Consensus: Bridging Theory and Practice", section 6.3.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

import msgspec

from viewstamp.core.ids import MICROSECONDS_PER_MS, LogTime
from viewstamp.core.principals import ANONYMOUS
from viewstamp.replica.options import SessionLimits

_SPARE_ALARMS: Final = 64
"""Alarms of sessions that have ended; with more than this, and more than of living ones, they are dropped."""


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """The result of a command: how it ended, the encoded payload, and a digest of the command itself."""

    kind: int
    payload: bytes
    digest: int


class Run(msgspec.Struct, frozen=True, gc=False):
    """The results of a message whose commands had consecutive numbers, from `first` on."""

    first: int
    kinds: Sequence[int]
    payloads: Sequence[bytes]
    digests: Sequence[int]
    """As in `Remembered`."""
    size_bytes: int
    """Of all payloads."""


_NO_RUNS: Final[list[Run]] = []
"""Of every session that keeps none: never changed."""


class SessionImage(msgspec.Struct, frozen=True, array_like=True):
    """A session in a snapshot."""

    client: int
    number: int
    last_used: int
    acknowledged: int
    results: list[tuple[int, int, bytes, int]]
    """(sequence number, kind, payload, digest) in the order of execution."""
    wanted_ms: int = 0
    """As in `Session`."""
    principal: str = ANONYMOUS
    """As in `Session`."""


class Session:
    """What is promised to one client."""

    __slots__ = (
        "_in_runs",
        "_results",
        "_runs",
        "acknowledged",
        "client",
        "last_used",
        "newest",
        "number",
        "principal",
        "result_bytes",
        "wanted_ms",
    )

    def __init__(self, client: int, number: int, last_used: LogTime, principal: str = ANONYMOUS) -> None:
        self.client = client
        self.number = number
        self.last_used = last_used
        self.principal = principal
        """On whose behalf it was opened: it serves no other principal, even one with the client's secret."""
        self.acknowledged = 0
        """The client has the results up to here; no key of `results` is lower or equal."""
        self._results: dict[int, Remembered] = {}
        self._runs = _NO_RUNS
        """Results later than those of `_results`: nearly all are acknowledged before any is asked for."""
        self._in_runs = 0
        """How many they are."""
        self.newest = 0
        """No higher sequence number was acknowledged or has a result."""
        self.result_bytes = 0
        """Sum of the payloads' lengths."""
        self.wanted_ms = 0
        """The time to live that the client asked for; 0: the cluster's own."""

    @property
    def results(self) -> dict[int, Remembered]:
        """The results that are kept, by sequence number, in the order of execution. Read-only for callers."""
        if self._runs:
            for run in self._runs:
                kept = map(Remembered, run.kinds, run.payloads, run.digests)
                self._results.update(enumerate(kept, run.first))
            self._runs, self._in_runs = _NO_RUNS, 0
        return self._results

    @property
    def kept(self) -> int:
        """How many results are kept."""
        return len(self._results) + self._in_runs

    def keep(self, run: Run) -> None:
        """Remember the results of a message as a whole. Its numbers are beyond all that are known."""
        assert run.first > max(self.newest, self.acknowledged), (run.first, self.newest, self.acknowledged)
        count = len(run.kinds)
        if self._runs:
            self._runs.append(run)
        else:
            self._runs = [run]
        self._in_runs += count
        self.newest = run.first + count - 1
        self.result_bytes += run.size_bytes

    def acknowledge(self, upto: int) -> int:
        """Forget the results up to this sequence number and return how many bytes that freed."""
        before = self.acknowledged
        if upto <= before:
            return 0
        self.acknowledged = upto
        if upto >= self.newest:
            freed, self.newest, self.result_bytes = self.result_bytes, upto, 0
            self._results.clear()
            if self._runs:
                self._runs, self._in_runs = _NO_RUNS, 0
            return freed
        if not self._results and (of_runs := self._acknowledge_runs(upto)) is not None:
            return of_runs
        results = self.results
        # A client may jump by 2**40: never walk a range longer than what there is to forget
        # (docs/faults.md#b49).
        count = upto - before
        old: Iterable[int] = range(before + 1, upto + 1) if count <= len(results) else tuple(results)
        forgotten = [results.pop(sequence, None) for sequence in old if sequence <= upto]
        freed = sum([len(known.payload) for known in forgotten if known is not None])
        self.result_bytes -= freed
        return freed

    def _acknowledge_runs(self, upto: int) -> int | None:
        """Forget whole messages, and return how many bytes that freed; None: it ends within one."""
        runs, done, freed = self._runs, 0, 0
        for run in runs:
            if run.first > upto:
                break
            if run.first + len(run.kinds) - 1 > upto:
                return None
            done += 1
            freed += run.size_bytes
        self._in_runs -= sum([len(run.kinds) for run in runs[:done]])
        del runs[:done]
        self.result_bytes -= freed
        return freed

    def image(self) -> SessionImage:
        """Return this session as it stands in a snapshot."""
        results = [(seq, known.kind, known.payload, known.digest) for seq, known in self.results.items()]
        return SessionImage(
            self.client,
            self.number,
            self.last_used,
            self.acknowledged,
            results,
            self.wanted_ms,
            self.principal,
        )


class Sessions:
    """All sessions of one replica."""

    __slots__ = ("_alarms", "_by_client", "_by_number", "limits", "overrides", "result_bytes")

    def __init__(self, limits: SessionLimits, images: Iterable[SessionImage] = ()) -> None:
        """Start with none, or with those of a snapshot, in the order in which it holds them."""
        self.limits = limits
        self.overrides: dict[str, int] = {}
        """Limits that the log has changed, by name: the others are those of the cluster file."""
        self._by_number: dict[int, Session] = {}
        """In the order in which they were opened, after a snapshot as well."""
        self._alarms: list[tuple[int, int]] = []
        """A heap of (log time, number): every session has an alarm that is not later than its end."""
        self._by_client: dict[int, Session] = {}
        """Holds the same sessions as `_by_number`."""
        self.result_bytes = 0
        """Sum over all sessions."""
        for image in images:
            self._restore(image)

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Session]:
        """Iterate in the order in which they were opened."""
        return iter(self._by_number.values())

    def of_client(self, client: int) -> Session | None:
        """Return the session of this client number, if one lives."""
        return self._by_client.get(client)

    def use(
        self, number: int, client: int, now: LogTime, principal: str | None = ANONYMOUS
    ) -> Session | None:
        """Return the session as just used; None if it does not live or is another client's or principal's.

        `principal` None: whichever it is.
        """
        session = self._by_number.get(number)
        if session is None or session.client != client:
            return None
        if principal is not None and session.principal != principal:
            return None
        assert session.last_used <= now, "log time never goes back"
        session.last_used = now
        return session

    def open(self, client: int, number: int, now: LogTime, principal: str = ANONYMOUS) -> Session:
        """Return the client's session: the one that lives, or a new one with this number.

        The caller has seen that it may be opened (`may_open`).
        """
        known = self._by_client.get(client)
        if known is not None:
            used = self.use(known.number, client, now, principal)
            assert used is known
            return known
        assert number not in self._by_number, number
        session = Session(client, number, now, principal)
        self._by_number[number] = self._by_client[client] = session
        self._set_alarm(session)
        return session

    def change(self, overrides: Mapping[str, int]) -> None:
        """Change limits by name, as an entry of the log or a snapshot says; what lives goes on living.

        Raises:
            ConfigurationError: one does not exist or does not fit; nothing was changed.
        """
        limits = self.limits
        for name, value in overrides.items():
            limits = limits.changed(name, value)
        self.limits = limits
        self.overrides.update(overrides)
        self._alarms = [(self._ends_at(each), each.number) for each in self._by_number.values()]
        heapify(self._alarms)

    def want(self, session: Session, time_to_live_ms: int) -> None:
        """Let a session live as long as its client asks for, within the limits; 0: it does not ask."""
        if time_to_live_ms and time_to_live_ms != session.wanted_ms:
            session.wanted_ms = time_to_live_ms
            self._set_alarm(session)

    def time_to_live_ms(self, session: Session) -> int:
        """Return how long a session lives after its last use."""
        return self.limits.granted_ms(session.wanted_ms)

    def end(self, session: Session) -> None:
        """Forget a session and its results."""
        del self._by_number[session.number]
        del self._by_client[session.client]
        self.result_bytes -= session.result_bytes
        assert self.result_bytes >= 0, self.result_bytes

    def overdue(self, now: LogTime) -> Session | None:
        """Return a session that has expired; None where all live."""
        alarms = self._alarms
        while alarms and alarms[0][0] <= now:
            at, number = alarms[0]
            session = self._by_number.get(number)
            if session is not None and (ends_at := self._ends_at(session)) > at:
                heappop(alarms)  # it was used since
                heappush(alarms, (ends_at, number))
            elif session is not None:
                return session
            else:
                heappop(alarms)
        return None

    def _ends_at(self, session: Session) -> int:
        return session.last_used + self.limits.granted_ms(session.wanted_ms) * MICROSECONDS_PER_MS

    def _set_alarm(self, session: Session) -> None:
        heappush(self._alarms, (self._ends_at(session), session.number))
        if len(self._alarms) > 2 * len(self._by_number) + _SPARE_ALARMS:
            self._alarms = [(self._ends_at(each), each.number) for each in self._by_number.values()]
            heapify(self._alarms)

    def is_of_another(self, client: int, principal: str) -> bool:
        """Return whether this client's session was opened on behalf of another principal."""
        known = self._by_client.get(client)
        return known is not None and known.principal != principal

    def may_open(self, client: int) -> bool:
        """Return whether this client has a session, or there is room for another."""
        return client in self._by_client or len(self._by_number) < self.limits.sessions_max

    def may_remember(self, session: Session) -> bool:
        """Return whether one more result may be kept for this session.

        Beyond half of `result_bytes_max` a session keeps its share of the other half: clients that do not
        acknowledge their results leave room for those that do.
        """
        if self.result_bytes >= self.limits.result_bytes_max:
            return False
        half = self.limits.result_bytes_max // 2
        return self.result_bytes < half or session.result_bytes < max(1, half // self.limits.sessions_max)

    def remember(self, session: Session, sequence: int, result: Remembered) -> None:
        """Keep the result of a command until it is acknowledged."""
        assert sequence > session.acknowledged, (sequence, session.acknowledged)
        session.results[sequence] = result
        size = len(result.payload)
        session.result_bytes += size
        session.newest = max(session.newest, sequence)
        self.result_bytes += size

    def remember_all(self, session: Session, run: Run) -> None:
        """Keep the results of a message until they are acknowledged."""
        session.keep(run)
        self.result_bytes += run.size_bytes

    def acknowledge(self, session: Session, upto: int) -> None:
        """Forget the results that the client says it has."""
        self.result_bytes -= session.acknowledge(upto)

    def images(self, *, sessions_max: int, bytes_max: int) -> Iterator[Sequence[SessionImage]]:
        """Yield all sessions for a snapshot in chunks, in the order in which they were opened.

        A chunk ends with `sessions_max` sessions, or with the one whose results pass `bytes_max`.
        """
        pending: list[SessionImage] = []
        size = 0
        for session in self._by_number.values():
            pending.append(session.image())
            size += session.result_bytes
            if len(pending) == sessions_max or size >= bytes_max:
                yield pending
                pending, size = [], 0
        if pending:
            yield pending

    def _restore(self, image: SessionImage) -> None:
        session = Session(image.client, image.number, LogTime(image.last_used), image.principal)
        session.acknowledged = session.newest = image.acknowledged
        for sequence, kind, payload, digest in image.results:
            session.results[sequence] = Remembered(kind, payload, digest)
            session.result_bytes += len(payload)
            session.newest = max(session.newest, sequence)
        session.wanted_ms = image.wanted_ms
        self._by_number[image.number] = self._by_client[image.client] = session
        self._set_alarm(session)
        self.result_bytes += session.result_bytes
