"""How a node that is in no view gets into one: founding the first view, or asking to be let in.

A member that finds others silent may be in no view either, and not know it: the others removed it, and those
that it still takes for members have gone. Nobody calls it, so it asks those outside its view for later ones.

View 1 is not agreed on by anybody, so a lowest node whose disk was wiped must not make it a second time: it
founds only after every other configured member said that it knows of no view. Any member that was ever let in
has the history on its disk and answers with it instead. The other nodes ask all they know, in turn.
"""

from typing import Final

from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.viewstamped.messages import AskFounded, Join, Unfounded, WantViews
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.views import ViewKeeper

_SHORT_RETRIES: Final = 25
"""A membership is short if it ends within so many pauses between two questions."""
_PAUSE_RETRIES_MAX: Final = 16


class Joining:
    """Asks while this node is outside, or may be; silent while it is a member of a view that lives."""

    __slots__ = (
        "_answered",
        "_ask_at",
        "_asked",
        "_pause_us",
        "_shared",
        "_turn",
        "_unfounded",
        "_views",
        "_was_member",
    )

    def __init__(self, shared: State, views: ViewKeeper) -> None:
        self._shared = shared
        self._views = views
        self._ask_at = shared.now
        self._turn = 0
        self._asked: set[NodeId] = set()
        """Nodes that were asked since this one is outside."""
        self._answered: set[NodeId] = set()
        """Nodes that answered since this one is outside: they and it hear one another."""
        self._was_member: Instant | None = None
        """Since when this node has been a member, None while it is outside."""
        self._pause_us = shared.options.join_retry_us
        """Between two rounds of asking: longer after each short membership, so that a bad link does not cost
        the others a view twice a second."""
        self._unfounded: set[NodeId] = set()
        """Other configured members that said they know of no view."""

    @property
    def _founds_together(self) -> bool:
        shared = self._shared
        return shared.options.bootstrap == "together" and all(shared.node < node for node in shared.others)

    def tick(self) -> None:
        """Ask again when it is time."""
        views, shared = self._views, self._shared
        if views.is_member:
            self._note_membership()
            self._look_around()
            return
        self._note_removal()
        if shared.now < self._ask_at:
            return
        self._ask_at = Instant(shared.now + self._pause_us)
        if not views.history and (shared.options.bootstrap == "alone" or self._all_unfounded()):
            views.found()
        elif not views.history and self._founds_together:
            for node in shared.others:
                shared.outbox.send_early(node, AskFounded(shared.me.incarnation))
        else:
            self._ask_to_join()

    def _note_membership(self) -> None:
        if self._was_member is None:
            self._was_member = self._shared.now
            self._answered.clear()
            self._asked.clear()

    def _look_around(self) -> None:
        views, shared = self._views, self._shared
        current = views.current
        assert current is not None
        if shared.now < self._ask_at or not views.heartbeats.removable(current):
            return
        self._ask_at = Instant(shared.now + shared.options.join_retry_us)
        node = self._next_of(set(self._candidates()) - set(current.nodes))
        if node is not None:
            shared.outbox.send_early(node, WantViews(shared.group, views.view))

    def _next_of(self, candidates: set[NodeId]) -> NodeId | None:
        """Return one of them, another one each time; None where there are none."""
        if not candidates:
            return None
        turn, self._turn = self._turn, self._turn + 1
        return sorted(candidates)[turn % len(candidates)]

    def _note_removal(self) -> None:
        if self._was_member is None:
            return
        shared = self._shared
        short = shared.now - self._was_member < _SHORT_RETRIES * shared.options.join_retry_us
        longer_us = min(2 * self._pause_us, _PAUSE_RETRIES_MAX * shared.options.join_retry_us)
        self._pause_us = longer_us if short else shared.options.join_retry_us
        self._ask_at = Instant(shared.now + (self._pause_us if short else 0))
        self._was_member = None

    def _all_unfounded(self) -> bool:
        return self._founds_together and self._unfounded >= set(self._shared.others)

    def _ask_to_join(self) -> None:
        shared = self._shared
        current = self._views.current
        asked = set() if current is None else {current.primary}
        one = self._next_of(self._candidates())
        if one is not None:
            asked.add(one)
        for node in sorted(asked - {shared.node}):
            # Early: a wish promises nothing.
            self._ask(node)

    def _ask(self, node: NodeId) -> None:
        shared = self._shared
        message = Join(shared.group, shared.me, self._views.view, node in self._answered)
        self._asked.add(node)
        shared.outbox.send_early(node, message)

    def on_answer(self, source: NodeId) -> None:
        """A node has shown its views. The first time, ask it again at once: it can hear that we heard it."""
        known = source in self._answered
        if self._views.is_member or known or source not in self._asked:
            return
        self._answered.add(source)
        self._ask(source)

    def _candidates(self) -> set[NodeId]:
        current = self._views.current
        known = set(self._shared.others) | (set() if current is None else set(current.nodes))
        if self._shared.options.contact is not None:
            known.add(self._shared.options.contact)
        return known - {self._shared.node}

    def on_ask_founded(self, source: NodeId, message: AskFounded) -> None:
        """Say that no view is known here, or show those that are."""
        if not self._views.history:
            self._shared.outbox.send(source, Unfounded(message.incarnation))
        else:
            self._views.show_from_start(source)

    def on_unfounded(self, source: NodeId, message: Unfounded) -> None:
        """Count an answer; found view 1 when all have come."""
        views, shared = self._views, self._shared
        if message.asked != shared.me.incarnation or views.history or source not in shared.others:
            return
        self._unfounded.add(source)
        if self._all_unfounded():
            views.found()

    def waiting_for(self) -> str:
        """Say in one line why this node is outside; empty for a member."""
        views = self._views
        if views.is_member:
            return ""
        if views.history:
            return f"the primary of view {views.view} or a later one to let this node in"
        if self._founds_together:
            silent = sorted(set(self._shared.others) - self._unfounded)
            names = ", ".join(str(node) for node in silent)
            return f"nodes {names} to say whether a view was founded already"
        return "a member to let this node in"
