"""Single faults of single messages of a scripted scenario, chosen by number.

Random faults find a defect that needs one unlucky message at one certain moment once in thousands of seeds.
Here the messages of a scenario are numbered, and one after the other is lost, duplicated or late, or its
connection breaks, or its sender or receiver stops, crashes, or has a disk that fails.

Rules of this file: what happens to a message is a function of its number and the name of the fault; a fault
ends by itself, except those called "gone": the server stays down until the scenario starts it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from viewstamp.core.ids import NodeId
from viewstamp.sim.cluster.scenario import Scenario

_MS: Final = 1_000
TIMEOUT_US: Final = 400 * _MS
"""About as long as any protocol takes to find a member silent."""
_TRAVEL_US: Final = 1 * _MS
"""How long a message takes that arrives."""
_SOON_US: Final = 3 * _MS
"""Longer than a message takes, and than it takes to notice a broken connection."""
_BACK_US: Final = 50 * _MS
"""A process whose disk failed is started again after this."""
_ARMED_US: Final = 500 * _MS
"""A planned failure of a disk that is not used for this long is dropped."""


class SingleFaults:
    """Watches the messages of one scenario and injects the planned faults."""

    def __init__(self, scenario: Scenario, planned: Mapping[int, str]) -> None:
        """`planned` has a key of `KINDS` for each message that goes wrong; the first is number 0."""
        self.scenario = scenario
        self.cluster = scenario.cluster
        self.planned = dict(planned)
        self.injected: list[str] = []
        """The faults so far, in words."""
        self.sent: list[str] = []
        """Messages between members since `begin`, each as its type, sender and receiver."""
        self.ends_us = 0
        """When the last fault so far has had its effect."""
        self._overtaking: list[tuple[NodeId, NodeId, int, Callable[[], None]]] = []
        """Messages held back on a link, each with the number of the message that overtakes it."""
        self._on_link: dict[tuple[NodeId, NodeId], int] = {}
        """How many messages each link was given."""
        self.cluster.on_death = lambda node: self.later(_BACK_US, self.start, node)

    def begin(self) -> None:
        """Number messages from now on."""
        self.cluster.network.intercept = self._take

    def end(self) -> None:
        """Inject nothing more; messages that are held back arrive."""
        self.cluster.network.intercept = None
        for *_, arrive in self._overtaking:
            self.later(_SOON_US, arrive)
        self._overtaking.clear()

    # Steps of a fault

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Schedule a part of a fault."""
        world = self.scenario.world
        self.ends_us = max(self.ends_us, world.now_us + delay_us)
        world.after(delay_us, action, *arguments)

    def crash(self, node: NodeId, back_us: int | None) -> None:
        """Crash a server if it is up; start it again after `back_us`. None: it stays down."""
        was_up = self.cluster.processes[node].running
        self.scenario.crash(node)
        if was_up and back_us is not None:
            self.later(back_us, self.start, node)

    def reset(self, source: NodeId, to: NodeId) -> None:
        """Break the connection between two servers, if both are up."""
        if {source, to} <= set(self.cluster.running):
            self.cluster.reset(source, to)

    def cut(self, source: NodeId, to: NodeId, length_us: int) -> None:
        """Cut both directions between the two for `length_us`."""
        self.cluster.network.cut({(source, to), (to, source)}, "single fault")
        self.later(length_us, self.cluster.network.cut, set(), "single fault")

    def pause(self, node: NodeId, length_us: int) -> None:
        """Stop a server for `length_us`, if it is up."""
        if self.cluster.processes[node].running:
            self.cluster.processes[node].pause(length_us)
        self.later(length_us, _nothing)

    def fill_disk(self, node: NodeId, length_us: int) -> None:
        """Let no file of this node grow for `length_us`."""
        files = self.cluster.processes[node].files
        files.faults.disk_full = 1.0
        self.later(length_us, setattr, files.faults, "disk_full", 0.0)

    def fail_disk(self, node: NodeId, effect: str) -> None:
        """Let the next use of this disk that can fail in this way fail."""
        files = self.cluster.processes[node].files
        files.next_effect = effect
        self.later(_ARMED_US, setattr, files, "next_effect", "")

    def after_next(self, source: NodeId, to: NodeId, count: int, arrive: Callable[[], None]) -> None:
        """Let a message arrive after the next `count` messages of its link."""
        self._overtaking.append((source, to, self._on_link[source, to] + count, arrive))

    def start(self, node: NodeId) -> None:
        """Start a server if it is down. If its disk fails at that, `on_death` starts it again."""
        if not self.cluster.processes[node].running:
            self.cluster.start(node)

    def _take(self, source: NodeId, to: NodeId, message: Any) -> bool:
        """Handle a message that is being sent; True: the network is not to carry it."""
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
            # All messages take equally long: a fault changes nothing else, and no other message overtakes.
            self.scenario.world.after(_TRAVEL_US, self.cluster.network.deliver, source, to, message)
            return True
        self.injected.append(f"message {number}, {source} to {to}, {kind}: {message!r:.200}")
        KINDS[kind](self, source, to, partial(self._carry, source, to, message))
        return True

    def _carry(self, source: NodeId, to: NodeId, message: Any) -> None:
        self.later(_TRAVEL_US, self.cluster.network.deliver, source, to, message)


_Carry = Callable[[], None]
Kind = Callable[[SingleFaults, NodeId, NodeId, _Carry], None]
"""Handles one message instead of the network; `carry()` sends it now."""


def _nothing() -> None:
    """Do nothing: only the time counts."""


def _lost(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
    del faults, source, to, carry


def _after(timeouts: int, *, twice: bool) -> Kind:
    """The message, or a copy of it, arrives after this many timeouts."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source, to
        if twice:
            carry()
        faults.later(timeouts * TIMEOUT_US, carry)

    return happen


def _overtaken(by: int, *, twice: bool) -> Kind:
    """The message, or a copy of it, arrives right after the next `by` messages of the same link."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        if twice:
            carry()
        faults.after_next(source, to, by, carry)

    return happen


def _reset(*, lost: bool = False, before: bool = False) -> Kind:
    """The connection breaks before the message arrives, or after, or so that the message is lost."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        if not before and not lost:
            carry()
            faults.later(_SOON_US, faults.reset, source, to)
            return
        faults.reset(source, to)
        if not lost:
            faults.later(2 * _SOON_US, carry)

    return happen


def _cut(timeouts: int) -> Kind:
    """The link is cut in both directions from this message on, for a while."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del carry
        faults.cut(source, to, timeouts * TIMEOUT_US)

    return happen


def _pause(timeouts: int) -> Kind:
    """The receiver stops, and reads the message when it goes on."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source
        carry()
        faults.pause(to, timeouts * TIMEOUT_US)

    return happen


def _crash(victim: str, back_us: int | None) -> Kind:
    """The sender crashes after sending, or the receiver just before or just after the message arrives."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        carry()
        delay_us = _TRAVEL_US if victim == "receiver had it" else 0
        faults.later(delay_us, faults.crash, source if victim == "sender" else to, back_us)

    return happen


def _full_disk(timeouts: int) -> Kind:
    """The receiver's disk is full for a while: neither a snapshot nor the journal can grow."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source
        faults.fill_disk(to, timeouts * TIMEOUT_US)
        carry()

    return happen


def _disk(effect: str) -> Kind:
    """The receiver cannot write what the message makes it write."""

    def happen(faults: SingleFaults, source: NodeId, to: NodeId, carry: _Carry) -> None:
        del source
        faults.later(_TRAVEL_US, faults.fail_disk, to, effect)
        carry()

    return happen


KINDS: Final[dict[str, Kind]] = {
    "lost": _lost,
    **{f"duplicated, {number} timeouts later": _after(number, twice=True) for number in (1, 5, 20)},
    **{f"late by {number} timeouts": _after(number, twice=False) for number in (1, 5, 20)},
    **{f"duplicated, after the next {number}": _overtaken(number, twice=True) for number in (1, 2, 3)},
    **{f"overtaken by {number}": _overtaken(number, twice=False) for number in (1, 2, 3)},
    "reset before": _reset(before=True),
    "reset after": _reset(),
    "reset and lost": _reset(lost=True),
    **{f"cut for {number} timeouts": _cut(number) for number in (1, 4)},
    **{f"receiver stops for {number} timeouts": _pause(number) for number in (1, 3)},
    **{
        f"{victim} crashes, {word}": _crash(victim, back_us)
        for victim in ("sender", "receiver", "receiver had it")
        for word, back_us in (("back soon", 10 * _MS), ("back late", 1_000 * _MS), ("gone", None))
    },
    "disk error": _disk("sync_error"),
    "disk full": _disk("disk_full"),
    **{f"disk full for {number} timeouts": _full_disk(number) for number in (1, 10)},
}
"""Every single fault by its name."""
