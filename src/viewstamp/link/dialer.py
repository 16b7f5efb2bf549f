"""The end of a connection that opens it: dial, say hello, stand, break, wait, dial again.

One `Dialer` belongs to one server and outlives its connections. Its owner opens and closes real connections:

- `advance` says at the deadline whether to dial or to hang up.
- The owner calls `opened` when a connection stands and `lost` when it ended or did not come about.
- Bytes from the connection go to `receive`; what is to be sent waits in `out`.

Each member sends over the connection that it opened itself and receives over the one that the other opened.
Two members can therefore never disagree about which of two crossed connections is the real one, and a network
that is cut one way looks like what it is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from random import Random
from typing import Final, TypeAlias

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant
from viewstamp.link.framing import (
    CHALLENGE,
    HELLO,
    NOTHING,
    PROOF,
    REFUSAL,
    SERVER,
    WELCOME,
    FrameQueue,
    Splitter,
)
from viewstamp.link.handshake import Welcome, check_welcome, decode_refusal, decode_welcome
from viewstamp.link.proof import Prover, Unproved

_US_PER_MS: Final = 1_000
_LOOKS: Final = 3
"""A silence is looked at this many times before it is long enough."""
_SHORT_DIALS: Final = 7
"""Dials in a row that wait a short time only. The next one reaches distant machines."""


Greeting: TypeAlias = bytes | Callable[[], bytes] | Prover
"""A hello, or what makes one for each connection."""


class DialLimits(msgspec.Struct, frozen=True):
    """Limits of the connections to one server."""

    hello_bytes_max: int
    """Of the answer to our hello."""
    frame_bytes_max: int
    """Of what arrives after the welcome."""
    send_bytes_max: int
    """Waiting to be sent; beyond it messages are dropped."""
    dial_timeout_ms: int
    """For opening a connection, and again for the welcome."""
    backoff_min_ms: int
    backoff_max_ms: int
    silence_ms: int = 0
    """What the other machine does not acknowledge for this long is lost with its connection. Half of it is
    the time for an answer to a dial, seven times out of eight. 0: TCP and `dial_timeout_ms` decide."""


class Action(Enum):
    """What the owner must do at a deadline."""

    DIAL = "dial"
    """Open a connection, then call `opened`, or `lost` where that fails."""
    HANG_UP = "hang up"
    """Give up the attempt or the connection, then call `lost`."""
    LOOK = "look"
    """Find out whether the other machine acknowledges what is sent, and call `looked`."""


class Phase(Enum):
    """Where a dialer stands."""

    WAITING = "waiting"
    """There is no connection. The deadline says when to dial; None: when there is something to send."""
    DIALLING = "dialling"
    """The owner opens a connection."""
    GREETING = "greeting"
    """The hello is on its way; neither welcome nor refusal has come."""
    UP = "up"
    """The server has welcomed us."""
    STOPPED = "stopped"


UP: Final = Phase.UP
"""For where a look-up in the class is too slow."""


class Welcomed(msgspec.Struct, frozen=True):
    """The server accepted the hello: messages may be sent."""

    welcome: Welcome


class Challenged(msgspec.Struct, frozen=True):
    """The server has proved itself, and wants a proof: send what waits in `out`."""


class Refused(msgspec.Struct, frozen=True):
    """The server refused the hello: close the connection and call `lost`."""

    reason: str
    is_news: bool
    """Whether it differs from the last refusal: log each reason once."""


class Backoff:
    """Waiting times that double, with jitter: half of each is certain, half is drawn."""

    __slots__ = ("_max_us", "_min_us", "_next_us", "_rng")

    def __init__(self, min_us: int, max_us: int, rng: Random) -> None:
        self._min_us = min_us
        self._max_us = max_us
        self._next_us = min_us
        """_min_us <= _next_us <= _max_us."""
        self._rng = rng

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next_us = self._min_us

    def exhaust(self) -> None:
        """Go to the longest wait at once: trying soon cannot help."""
        self._next_us = self._max_us

    def draw_us(self) -> int:
        """Return the next wait, and double the one after it."""
        wait_us = self._next_us
        self._next_us = min(2 * wait_us, self._max_us)
        return int(wait_us * (0.5 + self._rng.random() / 2))


class Dialer:
    """The connections to one server, one after the other. May lose messages, never waits."""

    __slots__ = (
        "_backoff",
        "_greet_until",
        "_held",
        "_hello",
        "_limits",
        "_on_demand",
        "_opened_at",
        "_overdue",
        "_prover",
        "_reported",
        "_short_dials",
        "_silent_since",
        "_unproved",
        "deadline",
        "dials",
        "dropped",
        "message_kind",
        "named",
        "out",
        "phase",
        "refusal",
        "splitter",
        "trouble",
    )

    def __init__(
        self,
        hello: Greeting,
        kind: int,
        limits: DialLimits,
        rng: Random,
        *,
        on_demand: bool = False,
    ) -> None:
        """`kind` is that of the frames this end sends: PEER or CLIENT.

        A function makes the hello of each connection.
        With a `Prover` a server is not told more than a hello until it has shown that it has the secret.

        With `on_demand` nothing is dialled before there is something to send, and nothing a second time.
        """
        self._prover = hello if isinstance(hello, Prover) else None
        self._hello = b"" if isinstance(hello, Prover) else hello
        self._unproved = False
        """Whether the server at the other end has still to prove itself."""
        self._limits = limits
        self._on_demand = on_demand
        self._backoff = Backoff(limits.backoff_min_ms * _US_PER_MS, limits.backoff_max_ms * _US_PER_MS, rng)
        self.splitter = Splitter(limits.hello_bytes_max)
        self._held: list[bytes] = []
        """What was sent on demand and waits for the welcome."""
        self._opened_at = Instant(0)
        self._greet_until: Instant | None = None
        """When to give up on the welcome; None: it is not waited for."""
        self._silent_since: Instant | None = None
        """When a look first found that nothing was acknowledged; None: the last one did not."""
        self._short_dials = 0
        """Dials in a row that waited for a short time only, and were not answered."""
        self._overdue = ""
        """Why the owner was told to hang up."""
        self._reported: bool | None = None
        """Whether the server was up when the owner last heard of it; None: it has heard nothing."""
        self.out = FrameQueue(kind)
        """What is to be sent over the connection that stands."""
        self.message_kind = NOTHING
        """The kind of the frames whose payloads are messages, while the server has welcomed us."""
        self.phase = Phase.WAITING
        self.deadline: Instant | None = None
        """When to call `advance`; None: never, as long as nothing else happens."""
        self.refusal = ""
        """Why the server last refused us; empty where it did not."""
        self.trouble = ""
        """Why there is no connection, in a few words."""
        self.named: Sequence[tuple[int, str, int]] = ()
        """The members with their addresses, as the server's last welcome had them."""
        self.dials = 0
        self.dropped = 0
        """Messages lost because the server was away or its queue was full."""

    @property
    def is_up(self) -> bool:
        """Whether the server has welcomed us and the connection stands."""
        return self.phase is UP

    @property
    def overdue(self) -> str:
        """Why the owner is told to hang up; empty where it is not."""
        return self._overdue

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self.splitter.in_frame

    @property
    def unfinished(self) -> int:
        """The number of the frame that has begun and not ended; 0: none."""
        return self.splitter.frames_cut if self.splitter.in_frame else 0

    def closed(self) -> None:
        """Keep nothing of an unfinished frame: the connection has ended."""
        self.splitter.give_back()

    # What the owner does

    def start(self, now: Instant) -> None:
        """Begin to dial."""
        assert not self._on_demand, "this one dials when there is something to send"
        self.deadline = now

    def stop(self) -> None:
        """Dial no more."""
        self.phase = Phase.STOPPED
        self.deadline = None

    def advance(self, now: Instant) -> Action | None:
        """Return what must be done now that it is this moment; None: nothing."""
        if self.deadline is None or now < self.deadline:
            return None
        if self.phase is Phase.WAITING:
            self.phase = Phase.DIALLING
            self.dials += 1
            self.deadline = self._answer_until(now)
            return Action.DIAL
        if self.phase is Phase.DIALLING:
            return self._hang_up("no answer")
        if self._greet_until is not None and now >= self._greet_until:
            return self._hang_up("no welcome in time")
        return Action.LOOK

    def looked(self, now: Instant, silent_ms: int) -> Action | None:
        """Take what a look has found: for how long nothing was acknowledged; 0 where nothing waits for that.

        It is the other machine that acknowledges, also while its process is busy or stopped. So a silence
        means that the network is cut, or that the machine is gone. TCP would find out in up to 10 s, and
        after a heal send again only when its waits, which double, allow it.
        """
        if silent_ms * _LOOKS < self._limits.silence_ms:
            self._silent_since = None  # something was, since the look before
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= self._limits.silence_ms * _US_PER_MS:
            return self._hang_up("its machine no longer answers")
        self._plan_look(now)
        return None

    def opened(self, now: Instant) -> None:
        """A connection stands: say hello over it."""
        assert self.phase is Phase.DIALLING, "a connection was not asked for"
        self.phase = Phase.GREETING
        self.message_kind = NOTHING
        self._greet_until = self._timeout(now)
        self._silent_since = None
        self._short_dials = 0
        self._plan_look(now)
        self._opened_at = now
        self.splitter = Splitter(self._limits.hello_bytes_max)
        self.out.clear()
        self._unproved = self._prover is not None and self._prover.insists
        hello = self._hello() if callable(self._hello) else self._hello
        self.out.add(HELLO, hello if self._prover is None else self._prover.begin())

    def lost(self, reason: str, now: Instant) -> bool:
        """The connection ended, or did not come about; return whether the server's absence is news."""
        if self.phase is UP and now - self._opened_at > self._limits.backoff_max_ms * _US_PER_MS:
            self._backoff.reset()
        self.trouble = self.refusal or self._overdue or reason or "the connection was closed"
        waited = self.phase is Phase.DIALLING and self._short_dials > 0 and self._overdue != ""
        self._overdue = ""
        self._held.clear()
        self.out.clear()
        is_news = self._reported is not False
        self._reported = False
        if self.phase is not Phase.STOPPED:
            self.phase = Phase.WAITING
            self.deadline = None if self._on_demand else Instant(now + self._draw_wait_us(waited=waited))
        return is_news

    def send(self, payload: bytes) -> bool:
        """Send a message, or lose it where the server is away or does not read; return whether it is sent."""
        if self.phase is UP and self.out.size + len(payload) <= self._limits.send_bytes_max:
            self.out.put(payload)
            return True
        self.dropped += 1
        return False

    def dial_for(self, payload: bytes, now: Instant) -> None:
        """Dial once, on demand, unless that is under way; `lost` or `Welcomed` is news every time.

        The message is sent if the server welcomes us, before anything else; otherwise it is lost.
        """
        assert self._on_demand, "this one dials by itself"
        if sum(map(len, self._held)) + len(payload) <= self._limits.send_bytes_max:
            self._held.append(payload)
        if self.phase is Phase.WAITING and self.deadline is None:
            self._reported = None
            self.deadline = now

    def hurry(self, now: Instant) -> None:
        """There is a reason to dial now. Where it is in vain, the waits go on growing."""
        if self.phase is Phase.WAITING and self.deadline is not None:
            self.deadline = min(self.deadline, now)

    def nudge(self, now: Instant) -> None:
        """The server has just called us, so that it is worth trying now."""
        if self.phase is not UP:
            self._backoff.reset()
            self.hurry(now)
            if self.phase is Phase.DIALLING and self._limits.silence_ms:
                self.deadline = now  # what was sent before was lost; TCP would wait before it dials again

    # What the server says

    def receive(self, data: bytes) -> Iterable[Welcomed | Challenged | Refused | bytes]:
        """Take in bytes and return what they mean: the answer to our hello, or payloads of messages.

        The result is consumed to its end, or the connection is given up.

        Raises:
            ProtocolViolation: at once or while the result is consumed. Events before the fault count.
        """
        frame = self.splitter.single(data)
        if frame is None:
            return self._receive_many(data)
        kind, payload = frame
        if kind == SERVER and self.phase is UP:  # nearly always, and on the way of every reply
            return (payload,)
        return (self._event(kind, payload),)

    def _receive_many(self, data: bytes) -> Iterator[Welcomed | Challenged | Refused | bytes]:
        for kind, payload in self.splitter.split(data):
            yield self._event(kind, payload)

    def _event(self, kind: int, payload: bytes) -> Welcomed | Challenged | Refused | bytes:
        if kind == SERVER and self.phase is UP:
            return payload
        if kind == CHALLENGE and self.phase is Phase.GREETING and self._prover is not None:
            self.out.add(PROOF, self._prover.answer(payload))
            self._unproved = False
            return Challenged()
        if kind == WELCOME and self.phase is Phase.GREETING:
            if self._unproved:
                raise Unproved
            return self._welcomed(decode_welcome(payload))
        if kind == REFUSAL and self.phase in {Phase.GREETING, Phase.UP}:
            reason = decode_refusal(payload)
            return Refused(reason, self.distrust(reason))
        raise ProtocolViolation(f"a frame of kind {kind} does not come this way")

    def _welcomed(self, welcome: Welcome) -> Welcomed:
        check_welcome(welcome)
        self.phase = Phase.UP
        self.message_kind = SERVER
        self._greet_until = None
        if not self._limits.silence_ms:
            self.deadline = None
        self.refusal = self.trouble = ""
        self.named = welcome.members
        self._reported = True
        self.splitter.payload_bytes_max = self._limits.frame_bytes_max
        for held in self._held:
            self.out.put(held)
        self._held.clear()
        return Welcomed(welcome)

    def distrust(self, reason: str) -> bool:
        """The server is not the one that was meant; return whether that is news. Trying soon cannot help."""
        is_news, self.refusal = reason != self.refusal, reason
        self._backoff.exhaust()
        return is_news

    def _hang_up(self, reason: str) -> Action:
        self._overdue = reason
        self.deadline = self._greet_until = None
        return Action.HANG_UP

    def _plan_look(self, now: Instant) -> None:
        """Look again in a while, or give up on the welcome where that comes first."""
        self.deadline = self._greet_until
        if self._limits.silence_ms:
            look_at = Instant(now + self._limits.silence_ms * _US_PER_MS // _LOOKS)
            self.deadline = look_at if self._greet_until is None else min(look_at, self._greet_until)

    def _answer_until(self, now: Instant) -> Instant:
        """Return when a dial is in vain, and count it where that is soon."""
        short_us = self._limits.silence_ms * _US_PER_MS // 2
        if not short_us or self._short_dials == _SHORT_DIALS:
            self._short_dials = 0
            return self._timeout(now)
        self._short_dials += 1
        return min(Instant(now + short_us), self._timeout(now))

    def _draw_wait_us(self, *, waited: bool) -> int:
        """Return how long not to dial; hardly at all after a dial that was not answered, and so took time."""
        return self._limits.backoff_min_ms * _US_PER_MS if waited else self._backoff.draw_us()

    def _timeout(self, now: Instant) -> Instant:
        return Instant(now + self._limits.dial_timeout_ms * _US_PER_MS)
