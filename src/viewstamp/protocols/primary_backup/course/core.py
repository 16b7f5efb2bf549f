"""The course's form: the server that is given a write becomes primary (CS6650 assignment 3, sections 2, 3).

Rules of this file:

- One entry is in flight at a time. The backups receive it one after the other, in ascending order (2.2).
- An entry is committed when every live backup has it. A backup is live from the moment it has everything
  until its connection breaks or it leaves a message unanswered for `reply_timeout_ms`.
- A takeover first asks every server where its log ends. A newer log, by (last_view, last_index), is copied
  first: otherwise a server that came back empty, and is written to before its repair, would acknowledge over
  the others' entries. Then each server is brought up to the own log, and that log is committed; only then the
  new entry is appended. The same code repairs a server that was out (3.2).
- A backup overwrites above its own `committed_index`, never at or below it. It applies everything up to the
  index that the primary reports as committed (and that the request shows to be the same log). So it stays one
  entry behind a primary that has no more writes (2.6).
- `view` numbers the takeovers and names the primary: (count of takeovers) * (members) + (its place). Two
  primaries never have the same one, and the later takeover has the higher. This orders messages that arrive
  late. It is not a fence: two primaries that do not hear each other both acknowledge, and one of the two
  entries is lost.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from viewstamp.core.effects import Answer, Apply, Effect, Entry, LeaderChanged, Settled
from viewstamp.core.events import (
    MEMBERS_FIXED,
    Captured,
    ChangeMembers,
    Directed,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    Received,
    Staged,
    TakeSnapshot,
    TransferLeadership,
    Woke,
)
from viewstamp.core.ids import Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.primary_backup.course.messages import (
    CourseMessage,
    Fetch,
    Fetched,
    Greet,
    Greeted,
    Replicate,
    Replicated,
    is_in_range,
)
from viewstamp.protocols.primary_backup.course.peers import Adoption, Peer, Standing
from viewstamp.protocols.primary_backup.course.state import CourseState
from viewstamp.protocols.primary_backup.journal import Promise
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Truncation, encode_record
from viewstamp.protocols.replication.node_state import NEVER, leaps

_NO_TRANSFER: Final = "no transfer in this protocol: send the next write to the server that is to be primary"
_TAKEOVER_LEAP_MAX: Final = 1 << 40
"""Each write through another server is a takeover: there may be many while this server is away."""
_NO_SNAPSHOT: Final = "no snapshots in this protocol: it keeps its whole log"
_REFUSALS: Final = {
    TransferLeadership: _NO_TRANSFER,
    TakeSnapshot: _NO_SNAPSHOT,
    ChangeMembers: MEMBERS_FIXED,
}


class CourseCore(CourseState):
    """One server; satisfies `core.protocol.Core`. Its variables are described in `CourseState`."""

    __slots__ = ()

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken."""
        if self.applied_index < self.committed_index:
            return self._now
        earliest = min((peer.answer_by_at for peer in self.peers.values()), default=NEVER)
        return earliest if earliest < NEVER else None

    @property
    def accepting(self) -> bool:
        """Whether a write may be given to this server: to any that has none in flight and repairs nobody."""
        if self._pending is not None or self.in_flight or self.applied_index < self.committed_index:
            return False
        return not self.is_primary or not any(peer.is_awaited for peer in self.peers.values())

    # Events

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """Take in one event and return what must be done, in order."""
        assert now >= self._now, (now, self._now)
        self._now = now
        self._take_in(event)
        if self.is_primary:
            self._proceed()
        self._apply()
        return self._outbox.take()

    def _take_in(self, event: Event) -> None:
        match event:
            case Received():
                self._receive(event.source, event.message)
            case Persisted():
                self._outbox.persisted(event.seq)
                self.log.persisted(event.seq)
            case Proposed():
                self._propose(event.data)
            case Woke():
                self._give_up_silent()
            case Queried():
                self._outbox.emit(Answer(event.token))
            case PeerUp():
                self._on_peer_up(event.peer)
            case PeerDown():
                self._on_peer_down(event.peer)
            case Directed():
                self._outbox.emit(Settled(event.token, _REFUSALS[type(event.directive)]))
            case Captured() | Staged():
                self.drop("snapshot that was not asked for")
            case _:
                assert_never(event)

    def _propose(self, data: bytes) -> None:
        assert self.accepting, "nothing is proposed to a core that is not accepting"
        self._pending = data
        if not self.is_primary:
            self._attempts = 0
            self._become_primary()
            return
        for peer in self.peers.values():
            if peer.standing is Standing.OUT:
                self._greet(peer)  # the write does not wait for the answer: most often it is still dead

    def _on_peer_up(self, node: NodeId) -> None:
        """A new connection: the server may have restarted since, so ask again where its log ends."""
        peer = self.peers.get(node)
        if self.is_primary and peer is not None:
            self._lose(peer)
            self._ask(peer)

    def _on_peer_down(self, node: NodeId) -> None:
        """A backup is out, or the primary is gone."""
        if node in self.peers and self.is_primary:
            self._lose(self.peers[node])
        elif node == self.primary_id:
            # Only the present primary: the end of a former one says nothing of the one that replaced it.
            self._name_primary(self.takeover, None)

    def _give_up_silent(self) -> None:
        """Count backups that have not answered in time as failed: their host may be gone without a word."""
        for peer in self.peers.values():
            if peer.answer_by_at <= self._now:
                self._lose(peer)

    def _lose(self, peer: Peer) -> None:
        """Go on without it; if its log was being copied, ask the others again for a newer one."""
        peer.leave()
        if self._adoption is not None and self._adoption.source == peer.node:
            self._ask_everybody(but=peer)

    # The primary

    def _become_primary(self) -> None:
        """Take over (2.2, step 2): ask every server where its log ends."""
        assert self._pending is not None, "only a write makes a primary"
        self._attempts += 1
        size = len(self._members)
        takeovers = self.takeover // size + 1
        view = takeovers * size + self._members.index(self.factory_id)
        self._outbox.persist(encode_record(Promise(view, self.factory_id, granted=True)))
        self.taking_over = True
        self._name_primary(view, self.factory_id)
        self._ask_everybody()

    def _ask_everybody(self, but: Peer | None = None) -> None:
        """Begin a takeover, or begin it again: ask where each log ends."""
        self._adoption = None
        for peer in self.peers.values():
            peer.leave()
            if peer is not but:
                self._ask(peer)

    def _ask(self, peer: Peer) -> None:
        self._greet(peer)
        peer.expect(self._now + self._options.reply_timeout_us)

    def _proceed(self) -> None:
        """Do what can be done next: bring up servers that are behind, commit, begin the next entry."""
        for peer in self.peers.values():
            if peer.standing is Standing.BEHIND:
                self._bring_up(peer)
        if self.taking_over:
            self._end_takeover()
        if self.in_flight:
            self._replicate()
        if self._pending is not None and not self.in_flight and not self._is_held_up():
            self._append(self._pending)
            self._pending = None
            self._replicate()

    def _is_held_up(self) -> bool:
        """Return whether the next entry has to wait: for the takeover, or for a repair (3.2)."""
        return self.taking_over or any(peer.is_awaited for peer in self.peers.values())

    def _end_takeover(self) -> None:
        """Commit the own log when every server is live or out (2.6)."""
        awaited = any(peer.is_awaited for peer in self.peers.values())
        if not awaited and self.log.durable_seqno == self.last_index:
            self.taking_over = False
            self.committed_index = self.last_index

    def _append(self, data: bytes) -> None:
        """Append the operation to the own log (2.2, step 3)."""
        assert not self.in_flight, self.in_flight
        assert not self.taking_over, "the own log is committed first"
        entry = EntryRecord(self.takeover, self.last_index + 1, COMMAND, data)
        record = encode_record(entry)
        self.log.append(entry, record, self._outbox.persist(record))
        self.in_flight = self.last_index

    def _replicate(self) -> None:
        """Send the entry in flight to the next live backup that lacks it; commit when none does (2.2)."""
        index = self.in_flight
        for peer in self.peers.values():
            if peer.standing is Standing.LIVE and peer.matched < index:
                if peer.sent < index:
                    self._send_entry(peer, index)
                    peer.expect(self._now + self._options.reply_timeout_us)
                return
        if self.log.durable_seqno >= index:
            self.in_flight = 0
            self.committed_index = index

    def _bring_up(self, peer: Peer) -> None:
        """Send what a server lacks, one by one; it is live when it has everything."""
        while peer.sent < self.last_index and peer.sent - peer.matched < self._options.catch_up_window:
            self._send_entry(peer, peer.sent + 1)
        if peer.matched == self.last_index:
            peer.join()

    def _greet(self, peer: Peer) -> None:
        question = Greet(
            view=self.takeover,
            factory_id=self.factory_id,
            committed_index=self.committed_index,
            last_index=self.last_index,
            last_view=self.log.last_view,
        )
        # Early: a question promises nothing that the disk must hold.
        self._outbox.send_early(peer.node, question)

    def _send_entry(self, peer: Peer, index: int) -> None:
        entry, previous = self.log.entry(index), self.log.view_at(index - 1)
        assert previous is not None, index
        peer.sent = index
        request = Replicate(
            view=self.takeover,
            factory_id=self.factory_id,
            committed_index=self.committed_index,
            last_index=index,
            entry_view=entry.view,
            previous_view=previous,
            entry=entry.data,
        )
        # Early: a request promises nothing; the primary counts itself only when its own write is durable.
        self._outbox.send_early(peer.node, request)

    def _on_greeted(self, peer: Peer, answer: Greeted) -> None:
        """Find where the logs part: at its end, or else at what it has committed, which cannot differ."""
        if peer.standing is Standing.LIVE or self._adoption is not None:
            return  # an answer from before it was brought up; or every server will be asked again
        if peer.standing is Standing.BEHIND:
            # A server that was paused answers all questions at once: each would begin the repair again from
            # the start. If it is a gap that it found, the repair goes on from the next entry that it has.
            peer.gap = True
            return
        ends = (answer.last_view, answer.last_index), (self.log.last_view, self.log.last_seqno)
        if self.taking_over and ends[0] > ends[1]:
            self._adopt(peer, answer)
            return
        if self.log.view_at(answer.last_index) == answer.last_view:
            matched = answer.last_index
        else:
            matched = answer.committed_index
        if matched > self.last_index:
            # It has committed what this server never had: a write was sent to a server before its repair.
            self.drop("answer of a server that has committed more than the primary has")
            peer.leave()
            return
        peer.begin(matched)
        peer.expect(self._now + self._options.reply_timeout_us)

    def _adopt(self, peer: Peer, answer: Greeted) -> None:
        """Copy its log before anything else: it is newer than ours."""
        for other in self.peers.values():
            other.leave()
        window = self._options.catch_up_window
        self._adoption = Adoption(
            peer.node, committed_index=self.committed_index, last_index=answer.last_index, window=window
        )
        self._fetch(peer, self._adoption)

    def _fetch(self, peer: Peer, adoption: Adoption) -> None:
        # Early: a question promises nothing that the disk must hold.
        question = Fetch(view=self.takeover, factory_id=self.factory_id, first_index=adoption.ask())
        self._outbox.send_early(peer.node, question)
        peer.expect(self._now + self._options.reply_timeout_us)

    def _on_fetched(self, peer: Peer, answer: Fetched) -> None:
        adoption = self._adoption
        if adoption is None or (peer.node, answer.last_index) != (adoption.source, adoption.next_index):
            self.drop("log entry that was not asked for")
            return
        assert self.taking_over, "a log is copied only within a takeover"
        if self.log.view_at(answer.last_index) != answer.entry_view:
            self._write_entry(answer)
        adoption.next_index += 1
        if adoption.is_complete:
            self._ask_everybody()
        elif adoption.must_ask:
            self._fetch(peer, adoption)

    def _on_replicated(self, peer: Peer, answer: Replicated) -> None:
        if answer.last_index > peer.sent or peer.standing is Standing.OUT:
            self.drop("answer to nothing that was sent")
            return
        peer.matched = max(peer.matched, answer.last_index)
        if peer.standing is Standing.BEHIND:
            peer.resume()
            peer.expect(self._now + self._options.reply_timeout_us)
        elif peer.matched >= peer.sent:
            peer.settle()

    # The backup

    def _receive(self, source: NodeId, message: CourseMessage) -> None:
        peer = self.peers.get(source)
        if peer is None or not is_in_range(message):
            self.drop("message of a stranger" if peer is None else "numbers out of range")
            return
        if leaps(message.view, self.takeover, _TAKEOVER_LEAP_MAX):
            self.drop("takeover far beyond this server's")
            return
        match message:
            case Greet() | Replicate() | Fetch():
                self._obey(source, message)
            case Greeted() | Replicated() | Fetched() if message.view > self.takeover:
                self._on_later_takeover(message.view)
            case Greeted() | Replicated() | Fetched() if message.view < self.takeover or not self.is_primary:
                self.drop("answer to an earlier takeover")
            case Greeted():
                self._on_greeted(peer, message)
            case Replicated():
                self._on_replicated(peer, message)
            case Fetched():
                self._on_fetched(peer, message)
            case _:
                assert_never(message)

    def _on_later_takeover(self, view: int) -> None:
        """Another server has taken over since. A server that only begins to take over tries once more."""
        pending, is_beginning = self._pending, self.taking_over
        self._name_primary(view, None)
        if is_beginning and pending is not None and self._attempts < len(self._members):
            self._pending = pending
            self._become_primary()

    def _obey(self, source: NodeId, message: Greet | Replicate | Fetch) -> None:
        """Serve the primary of the latest takeover; tell an earlier one that it is no longer primary."""
        if message.view < self.takeover or (message.view == self.takeover and self.is_primary):
            self._outbox.send(source, Replicated(view=self.takeover, last_index=0))
            return
        if message.view > self.takeover:
            self._outbox.persist(encode_record(Promise(message.view, source, granted=False)))
        self._name_primary(message.view, source)
        if isinstance(message, Greet):
            self._answer_greeting(source)
        elif isinstance(message, Fetch):
            self._on_fetch(source, message)
        else:
            self._on_replicate(source, message)

    def _on_fetch(self, source: NodeId, message: Fetch) -> None:
        """Send the new primary what it lacks, `catch_up_window` entries at a time."""
        end = min(self.last_index, message.first_index + self._options.catch_up_window - 1)
        for index in range(max(1, message.first_index), end + 1):
            entry = self.log.entry(index)
            answer = Fetched(view=self.takeover, last_index=index, entry_view=entry.view, entry=entry.data)
            self._outbox.send(source, answer)

    def _answer_greeting(self, source: NodeId) -> None:
        answer = Greeted(
            view=self.takeover,
            committed_index=self.committed_index,
            last_index=self.last_index,
            last_view=self.log.last_view,
        )
        self._outbox.send(source, answer)

    def _on_replicate(self, source: NodeId, request: Replicate) -> None:
        """Write the entry at its index, apply what is committed, respond (2.2, step 4b)."""
        index = request.last_index
        if index < 1 or self.log.view_at(index - 1) != request.previous_view:
            self._answer_greeting(source)
            return
        if self.log.view_at(index) != request.entry_view and not self._write_entry(request):
            self.drop("entry that contradicts a committed one")
            return
        self.committed_index = max(self.committed_index, min(request.committed_index, index))
        self._outbox.send(source, Replicated(view=self.takeover, last_index=index))

    def _write_entry(self, request: Replicate | Fetched) -> bool:
        """Store the entry at its index, replacing what differs. Return False where that is committed here."""
        index = request.last_index
        if index <= self.committed_index:
            return False
        entry = EntryRecord(request.entry_view, index, COMMAND, request.entry)
        record = encode_record(entry)
        if index <= self.last_index:
            self.log.truncate(index - 1)
            self._outbox.persist(encode_record(Truncation(index - 1)))
        self.log.append(entry, record, self._outbox.persist(record))
        return True

    # Both

    def _name_primary(self, view: int, primary: NodeId | None) -> None:
        """Record another primary, or none: this server steps down if it was primary."""
        if primary != self.factory_id:
            self._pending, self.in_flight, self.taking_over = None, 0, False
            self._adoption = None
            for peer in self.peers.values():
                peer.leave()
        is_news = (view, primary) != (self.takeover, self.primary_id)
        assert view >= self.takeover, (view, self.takeover)
        self.takeover = view
        self.primary_id = primary
        if is_news:
            self._outbox.emit(LeaderChanged(View(view), primary))

    def _apply(self) -> None:
        """Hand out what is committed, `applies_per_step_max` entries at a time."""
        end = min(self.committed_index, self.applied_index + self._options.applies_per_step_max)
        for index in range(self.applied_index + 1, end + 1):
            entry = self.log.entry(index)
            self._outbox.emit(Apply(Entry(Viewstamp(View(entry.view), Seqno(index)), entry.data)))
        self.applied_index = end
