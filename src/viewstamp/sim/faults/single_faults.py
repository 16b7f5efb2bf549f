"""Mishaps: single faults that befall single messages of a scripted scenario, chosen by number.

Random disasters reach a defect that needs one unlucky message at one certain moment once in thousands of
seeds. Here the messages of a scenario are numbered, and one after the other is lost, doubled or late, or its
connection breaks, or its sender or receiver stops, crashes, or has a disk that fails.

Rules of this file: what befalls a message is a function of its number and the name of the mishap; a mishap
ends by itself, but for those called "gone", whose victims stay down until somebody starts them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from viewstamp.core.ids import NodeId
from viewstamp.sim.cluster.scenario import Scenario

_MS: Final = 1_000
TIMEOUT_US: Final = 400 * _MS
"""About as long as it takes any protocol to find a member silent."""
_TRAVEL_US: Final = 1 * _MS
"""How long a message takes of which something becomes."""
_SOON_US: Final = 3 * _MS
"""Longer than messages take, and breaking connections are noticed."""
_BACK_US: Final = 50 * _MS
"""After this a process whose disk failed is started again."""
_ARMED_US: Final = 500 * _MS
"""A disk that was not used for so long does not fail any more."""


class Mishaps:
    """Watches the messages of one scenario, and lets those go wrong whose numbers are planned to."""

    def __init__(self, scenario: Scenario, planned: Mapping[int, str]) -> None:
        """`planned` has a key of `KINDS` for each message that goes wrong; the first is number 0."""
        self.scenario = scenario
        self.cluster = scenario.cluster
        self.planned = dict(planned)
        self.befell: list[str] = []
        """What went wrong, in words."""
        self.sent: list[str] = []
        """Messages between members since `begin`, each as what it is from whom to whom."""
        self.ends_us = 0
        """When the last mishap so far has had its effect."""
        self._overtaking: list[tuple[NodeId, NodeId, int, Callable[[], None]]] = []
        """Messages held back on a link, and by the number of which later one they are overtaken."""
        self._on_link: dict[tuple[NodeId, NodeId], int] = {}
        """How many messages each link was given."""
        self.cluster.on_death = lambda node: self.later(_BACK_US, self.start, node)

    def begin(self) -> None:
        """Number messages from now on."""
        self.cluster.network.intercept = self._take

    def end(self) -> None:
        """Nothing more goes wrong; what is held back arrives."""
        self.cluster.network.intercept = None
        for *_, arrive in self._overtaking:
            self.later(_SOON_US, arrive)
        self._overtaking.clear()

    # What mishaps are made of

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Let this be a part of the mishap that happens after a while."""
        world = self.scenario.world
        self.ends_us = max(self.ends_us, world.now_us + delay_us)
        world.after(delay_us, action, *arguments)

    def crash(self, node: NodeId, back_us: int | None) -> None:
        """Crash a server if it is up; start it again after so long, or not at all."""
        was_up = self.cluster.processes[node].running
        self.scenario.crash(node)
        if was_up and back_us is not None:
            self.later(back_us, self.start, node)

    def reset(self, source: NodeId, to: NodeId) -> None:
        """Break the connection between two servers, if both are up."""
        if {source, to} <= set(self.cluster.running):
            self.cluster.reset(source, to)

    def cut(self, source: NodeId, to: NodeId, length_us: int) -> None:
        """Cut the two off from each other for so long."""
        self.cluster.network.cut({(source, to), (to, source)}, "mishap")
        self.later(length_us, self.cluster.network.cut, set(), "mishap")

    def pause(self, node: NodeId, length_us: int) -> None:
        """Stop a server for so long, if it is up."""
        if self.cluster.processes[node].running:
            self.cluster.processes[node].pause(length_us)
        self.later(length_us, _nothing)

    def fill_disk(self, node: NodeId, length_us: int) -> None:
        """Let no file of this node become longer for so long."""
        files = self.cluster.processes[node].files
        files.faults.disk_full = 1.0
        self.later(length_us, setattr, files.faults, "disk_full", 0.0)

    def fail_disk(self, node: NodeId, effect: str) -> None:
        """Let the next use of this disk that can fail in this way do so."""
        files = self.cluster.processes[node].files
        files.next_effect = effect
        self.later(_ARMED_US, setattr, files, "next_effect", "")

    def after_next(self, source: NodeId, to: NodeId, count: int, arrive: Callable[[], None]) -> None:
        """Let this happen when the next so many messages of a link have arrived."""
        self._overtaking.append((source, to, self._on_link[source, to] + count, arrive))

    def start(self, node: NodeId) -> None:
        """Start a server if it is down; again a little later where its disk fails just then."""
        if not self.cluster.processes[node].running:
            self.cluster.start(node)

    def _take(self, source: NodeId, to: NodeId, message: Any) -> bool:
        """Be told of a message that is being sent; True: something else becomes of it."""
        if self.cluster.network.is_cut(source, to):
            return False
        number, link = len(self.sent), (source, to)
        self.sent.append(f"{type(message).__name__} {source} to {to}")
        self._on_link[link] = place = self._on_link.get(link, 0) + 1
        due = [held for held in self._overtaking if held[:2] == link and held[2] <= place]
        for held in due:
            self._overtaking.remove(held)
            self.later(_SOON_US, held[3])
        kind = self.planned.get(number)
        if kind is None:
            # All travel alike, so that what goes wrong changes nothing else, and nothing else overtakes.
            self.scenario.world.after(_TRAVEL_US, self.cluster.network.deliver, source, to, message)
            return True
        self.befell.append(f"message {number}, {source} to {to}, {kind}: {message!r:.200}")
        KINDS[kind](self, source, to, partial(self._carry, source, to, message))
        return True

    def _carry(self, source: NodeId, to: NodeId, message: Any) -> None:
        self.later(_TRAVEL_US, self.cluster.network.deliver, source, to, message)


_Carry = Callable[[], None]
Kind = Callable[[Mishaps, NodeId, NodeId, _Carry], None]
"""Decides what becomes of a message; `carry()` lets it travel from now."""


def _nothing() -> None:
    """Only time has to pass."""


def _lost(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
    del mishaps, source, to, carry


def _after(timeouts: int, *, twice: bool) -> Kind:
    """It arrives after so many timeouts: it, or a copy of it."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source, to
        if twice:
            carry()
        mishaps.later(timeouts * TIMEOUT_US, carry)

    return happen


def _overtaken(by: int, *, twice: bool) -> Kind:
    """It, or a copy of it, arrives right after the next so many of the same link."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        if twice:
            carry()
        mishaps.after_next(source, to, by, carry)

    return happen


def _reset(*, lost: bool = False, before: bool = False) -> Kind:
    """The connection breaks, before it arrives or after, or so that it is lost."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        if not before and not lost:
            carry()
            mishaps.later(_SOON_US, mishaps.reset, source, to)
            return
        mishaps.reset(source, to)
        if not lost:
            mishaps.later(2 * _SOON_US, carry)

    return happen


def _cut(timeouts: int) -> Kind:
    """From this message on, nothing gets through between the two for a while."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del carry
        mishaps.cut(source, to, timeouts * TIMEOUT_US)

    return happen


def _pause(timeouts: int) -> Kind:
    """The receiver stops, and finds it when it goes on."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source
        carry()
        mishaps.pause(to, timeouts * TIMEOUT_US)

    return happen


def _crash(who: str, back_us: int | None) -> Kind:
    """The sender has just sent it, or the receiver has not got it yet, or has got it and crashes."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        carry()
        delay_us = _TRAVEL_US if who == "receiver had it" else 0
        mishaps.later(delay_us, mishaps.crash, source if who == "sender" else to, back_us)

    return happen


def _full_disk(timeouts: int) -> Kind:
    """From now on the receiver has no room for a snapshot, or a journal that grows, for a while."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source
        mishaps.fill_disk(to, timeouts * TIMEOUT_US)
        carry()

    return happen


def _disk(effect: str) -> Kind:
    """What the receiver writes because of it cannot be written."""

    def happen(mishaps: Mishaps, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source
        mishaps.later(_TRAVEL_US, mishaps.fail_disk, to, effect)
        carry()

    return happen


KINDS: Final[dict[str, Kind]] = {
    "lost": _lost,
    **{f"doubled, {number} timeouts later": _after(number, twice=True) for number in (1, 5, 20)},
    **{f"late by {number} timeouts": _after(number, twice=False) for number in (1, 5, 20)},
    **{f"doubled, after the next {number}": _overtaken(number, twice=True) for number in (1, 2, 3)},
    **{f"overtaken by {number}": _overtaken(number, twice=False) for number in (1, 2, 3)},
    "reset before": _reset(before=True),
    "reset after": _reset(),
    "reset and lost": _reset(lost=True),
    **{f"cut for {number} timeouts": _cut(number) for number in (1, 4)},
    **{f"receiver stops for {number} timeouts": _pause(number) for number in (1, 3)},
    **{
        f"{who} crashes, {word}": _crash(who, back_us)
        for who in ("sender", "receiver", "receiver had it")
        for word, back_us in (("back soon", 10 * _MS), ("back late", 1_000 * _MS), ("gone", None))
    },
    "disk error": _disk("sync_error"),
    "disk full": _disk("disk_full"),
    **{f"disk full for {number} timeouts": _full_disk(number) for number in (1, 10)},
}
"""Every mishap by its name."""
