"""The course's form: whoever is given a write becomes primary (CS6650 assignment 3, sections 2 and 3).

Rules of this file:

- One entry is under way at a time, and backups have it one after the other, in ascending order (2.2).
- An entry is committed when every live backup has it. A backup is live from the moment it has everything
  until its connection breaks, or it owes an answer for too long.
- A takeover first asks every member where it stands. A newer log, by (last_view, last_index), is taken over:
  a server that came back empty and is written to before its repair would else acknowledge over the others'
  entries. Then each member is brought up to the own log, which is committed; only then the new entry is
  appended. The same code repairs a server that was out (3.2).
- A backup overwrites above its own `committed_index`, never at or below it. It applies everything up to the
  index that the primary reports as committed (and that the request shows to be the same log), so it stays one
  behind a primary that has come to rest (2.6).
- `view` numbers the takeovers and names the primary: (count of takeovers) * (members) + (its place). Two
  primaries never have the same one, and the later takeover has the higher. This orders words that arrive
  late. It is no fence: two primaries that do not hear each other both acknowledge, and one of them in vain.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from viewstamp.core.effects import Answer, Apply, Effect, Entry, LeaderChanged, Settled
from viewstamp.core.events import (
    Captured,
    Directed,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    Received,
    Staged,
    Woke,
)
from viewstamp.core.ids import Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup
from viewstamp.protocols.primary_backup.course.adoption import Adoption
from viewstamp.protocols.primary_backup.course.peers import Peer, Standing
from viewstamp.protocols.primary_backup.course.status import CourseAccount, refusal_of
from viewstamp.protocols.primary_backup.journal import Promise, Replay
from viewstamp.protocols.primary_backup.messages import (
    CourseMessage,
    Fetch,
    Fetched,
    Greet,
    Greeted,
    Replicate,
    Replicated,
    is_in_range,
)
from viewstamp.protocols.primary_backup.options import CourseOptions
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Log, Truncation, encode_record

NEVER: Final = Instant(1 << 62)


class CourseCore(CourseAccount):
    """One server; satisfies `core.protocol.Core`.

    `last_index`, `committed_index`, `primary_id` and `factory_id` are the assignment's (2.2).
    """

    __slots__ = (
        "_adoption",
        "_attempts",
        "_led",
        "_members",
        "_now",
        "_options",
        "_outbox",
        "_pending",
        "applied_index",
        "committed_index",
        "dropped",
        "factory_id",
        "in_flight",
        "log",
        "peers",
        "primary_id",
        "taking_over",
    )

    def __init__(self, setup: CoreSetup) -> None:
        """Begin with the log on disk, if there is one; what of it is committed a primary will tell.

        Raises:
            JournalCorrupt: the journal is not one of this protocol's.
        """
        assert isinstance(setup.options, CourseOptions), setup.options
        self._options = setup.options
        self._members = setup.members
        self._outbox = Outbox(setup.recovered.written)
        self._now = setup.now
        self.factory_id = setup.node
        self.primary_id: NodeId | None = None
        """Who is primary, as far as this server knows; None stands for the assignment's -1."""
        found = Replay()
        for seq, records in setup.recovered.writes:
            found.write(seq, records)
        self.log: Log = found.log
        self.log.persisted(setup.recovered.written)
        self._led: tuple[int, NodeId | None] = (max(found.epoch, self.log.last_view), None)
        """(the highest takeover heard of, the primary as last named to the outside)."""
        self.committed_index = 0
        """Everything up to here is committed; committed_index <= last_index."""
        self.applied_index = 0
        """Everything up to here is applied; equal to `committed_index` except within a long catching up."""
        self._pending: bytes | None = None
        """A proposal that waits for the takeover, or for its turn; at most one."""
        self.in_flight = 0
        """The index that is being replicated; 0: none."""
        self.taking_over = False
        """The own log from before this takeover is not committed yet."""
        self._attempts = 0
        """Takeovers begun for the present proposal: bounded, as two servers might refuse each other."""
        self._adoption: Adoption | None = None
        """The newer log of another member that is being taken over; only within a takeover."""
        self.peers = {node: Peer(node) for node in setup.members if node != setup.node}
        """In ascending order: the sequence in which backups are sent to."""
        self.dropped = 0
        """Messages ignored for what they said."""

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken."""
        if self.applied_index < self.committed_index:
            return self._now
        earliest = min((peer.answer_by_at for peer in self.peers.values()), default=NEVER)
        return earliest if earliest < NEVER else None

    @property
    def accepting(self) -> bool:
        """Whether a write may be given to this server: to any, unless it is busy with one or with repairs."""
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
                self._outbox.emit(Settled(event.token, refusal_of(event.directive)))
            case Captured() | Staged():
                self.dropped += 1  # none was asked for
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
                self._greet(peer)  # whether it is back is found out beside the write, which does not wait

    def _on_peer_up(self, node: NodeId) -> None:
        """A connection that is new: whatever this server was before, it may have begun anew since."""
        peer = self.peers.get(node)
        if self.is_primary and peer is not None:
            self._lose(peer)
            self._ask(peer)

    def _on_peer_down(self, node: NodeId) -> None:
        """A backup is out; or the primary is gone, if it is that one (hole 5: not a former primary)."""
        if node in self.peers and self.is_primary:
            self._lose(self.peers[node])
        elif node == self.primary_id:
            self._name_primary(self._led[0], None)

    def _give_up_silent(self) -> None:
        """Take a backup that owes an answer for too long for dead: its host may be gone without a word."""
        for peer in self.peers.values():
            if peer.answer_by_at <= self._now:
                self._lose(peer)

    def _lose(self, peer: Peer) -> None:
        """Go on without it; if it was the one whose log was being taken over, see who else has it."""
        peer.leave()
        if self._adoption is not None and self._adoption.source == peer.node:
            self._ask_everybody(but=peer)

    # The primary

    def _become_primary(self) -> None:
        """Take over (2.2, step 2): ask every member where it stands."""
        self._attempts += 1
        size = len(self._members)
        takeovers = self._led[0] // size + 1
        view = takeovers * size + self._members.index(self.factory_id)
        self._outbox.persist(encode_record(Promise(view, self.factory_id, granted=True)))
        self.taking_over = True
        self._name_primary(view, self.factory_id)
        self._ask_everybody()

    def _ask_everybody(self, but: Peer | None = None) -> None:
        """Begin a takeover, or begin it again: where does everybody stand?"""
        self._adoption = None
        for peer in self.peers.values():
            peer.leave()
            if peer is not but:
                self._ask(peer)

    def _ask(self, peer: Peer) -> None:
        self._greet(peer)
        peer.expect(self._now + self._options.reply_timeout_us)

    def _proceed(self) -> None:
        """Do what can be done next: bring up who is behind, commit, begin the next entry."""
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
        """Tell whether the next entry has to wait: for the takeover, or for who is being repaired (3.2)."""
        return self.taking_over or any(peer.is_awaited for peer in self.peers.values())

    def _end_takeover(self) -> None:
        """Commit the own log when everybody is live or out (2.6)."""
        awaited = any(peer.is_awaited for peer in self.peers.values())
        if not awaited and self.log.durable_seqno == self.last_index:
            self.taking_over = False
            self.committed_index = self.last_index

    def _append(self, data: bytes) -> None:
        entry = EntryRecord(self._led[0], self.last_index + 1, COMMAND, data)
        record = encode_record(entry)
        self.log.append(entry, record, self._outbox.persist(record))
        self.in_flight = self.last_index

    def _replicate(self) -> None:
        """Send the entry under way to the next live backup that lacks it; commit when none does (2.2)."""
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
        log = self.log
        question = Greet(self._led[0], self.factory_id, self.committed_index, log.last_seqno, log.last_view)
        # Early: a question promises nothing that the disk must hold.
        self._outbox.send_early(peer.node, question)

    def _send_entry(self, peer: Peer, index: int) -> None:
        entry, previous = self.log.entry(index), self.log.view_at(index - 1)
        assert previous is not None, index
        peer.sent = index
        view, committed = self._led[0], self.committed_index
        request = Replicate(view, self.factory_id, committed, index, entry.view, previous, entry.data)
        # Early: a request promises nothing; the primary counts itself only when its own write is durable.
        self._outbox.send_early(peer.node, request)

    def _on_greeted(self, peer: Peer, answer: Greeted) -> None:
        """Find where the logs part: at its end, or else at what it has committed, which cannot differ."""
        if peer.standing is Standing.LIVE or self._adoption is not None:
            return  # a second answer, from before it was brought up; or all will be asked again
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
            self.dropped += 1
            peer.leave()
            return
        peer.begin(matched)
        peer.expect(self._now + self._options.reply_timeout_us)

    def _adopt(self, peer: Peer, answer: Greeted) -> None:
        """Take over its log before anything else: it is newer than ours."""
        for other in self.peers.values():
            other.leave()
        window = self._options.catch_up_window
        self._adoption = Adoption(peer.node, self.committed_index, answer.last_index, window)
        self._fetch(peer, self._adoption)

    def _fetch(self, peer: Peer, adoption: Adoption) -> None:
        # Early: a question promises nothing that the disk must hold.
        self._outbox.send_early(peer.node, Fetch(self._led[0], self.factory_id, adoption.ask()))
        peer.expect(self._now + self._options.reply_timeout_us)

    def _on_fetched(self, peer: Peer, answer: Fetched) -> None:
        adoption = self._adoption
        if adoption is None or (peer.node, answer.last_index) != (adoption.source, adoption.next_index):
            self.dropped += 1
            return
        if self.log.view_at(answer.last_index) != answer.entry_view:
            self._write_entry(answer)
        adoption.next_index += 1
        if adoption.is_complete:
            self._ask_everybody()
        elif adoption.must_ask:
            self._fetch(peer, adoption)

    def _on_replicated(self, peer: Peer, answer: Replicated) -> None:
        if answer.last_index > peer.sent or peer.standing is Standing.OUT:
            self.dropped += 1
            return
        peer.matched = max(peer.matched, answer.last_index)
        if peer.standing is Standing.BEHIND:
            peer.expect(self._now + self._options.reply_timeout_us)
        elif peer.matched >= peer.sent:
            peer.settle()

    # The backup

    def _receive(self, source: NodeId, message: CourseMessage) -> None:
        peer = self.peers.get(source)
        if peer is None or not is_in_range(message):
            self.dropped += 1
            return
        match message:
            case Greet() | Replicate() | Fetch():
                self._obey(source, message)
            case Greeted() | Replicated() | Fetched() if message.view > self._led[0]:
                self._on_later_takeover(message.view)
            case Greeted() | Replicated() | Fetched() if message.view < self._led[0] or not self.is_primary:
                self.dropped += 1
            case Greeted():
                self._on_greeted(peer, message)
            case Replicated():
                self._on_replicated(peer, message)
            case Fetched():
                self._on_fetched(peer, message)
            case _:
                assert_never(message)

    def _on_later_takeover(self, view: int) -> None:
        """Another one took over since. Who is only beginning to take over did not know, and begins again."""
        pending, is_beginning = self._pending, self.taking_over
        self._name_primary(view, None)
        if is_beginning and pending is not None and self._attempts < len(self._members):
            self._pending = pending
            self._become_primary()

    def _obey(self, source: NodeId, message: Greet | Replicate | Fetch) -> None:
        """Serve the primary of the latest takeover; tell an earlier one that it is none any more."""
        if message.view < self._led[0] or (message.view == self._led[0] and self.is_primary):
            self._outbox.send(source, Replicated(self._led[0], 0))
            return
        if message.view > self._led[0]:
            self._outbox.persist(encode_record(Promise(message.view, source, granted=False)))
        self._name_primary(message.view, source)
        if isinstance(message, Greet):
            self._answer_greeting(source)
        elif isinstance(message, Fetch):
            self._on_fetch(source, message)
        else:
            self._on_replicate(source, message)

    def _on_fetch(self, source: NodeId, message: Fetch) -> None:
        """Send the new primary what it lacks, some entries at a time."""
        end = min(self.last_index, message.first_index + self._options.catch_up_window - 1)
        for index in range(max(1, message.first_index), end + 1):
            entry = self.log.entry(index)
            self._outbox.send(source, Fetched(self._led[0], index, entry.view, entry.data))

    def _answer_greeting(self, source: NodeId) -> None:
        log = self.log
        self._outbox.send(source, Greeted(self._led[0], self.committed_index, log.last_seqno, log.last_view))

    def _on_replicate(self, source: NodeId, request: Replicate) -> None:
        """Write the entry at its index, apply what is committed, respond (2.2, step 4b)."""
        index = request.last_index
        if index < 1 or self.log.view_at(index - 1) != request.previous_view:
            self._answer_greeting(source)
            return
        if self.log.view_at(index) != request.entry_view and not self._write_entry(request):
            self.dropped += 1
            return
        self.committed_index = max(self.committed_index, min(request.committed_index, index))
        self._outbox.send(source, Replicated(self._led[0], index))

    def _write_entry(self, request: Replicate | Fetched) -> bool:
        """Put the entry in its place, in the place of what differs; never of what is committed here."""
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
        """Know another primary, or none. Whoever was primary before is one no more."""
        if primary != self.factory_id:
            self._pending, self.in_flight, self.taking_over = None, 0, False
            self._adoption = None
            for peer in self.peers.values():
                peer.leave()
        self.primary_id = primary
        if self._led != (view, primary):
            self._led = (view, primary)
            self._outbox.emit(LeaderChanged(View(view), primary))

    def _apply(self) -> None:
        end = min(self.committed_index, self.applied_index + self._options.applies_per_step_max)
        for index in range(self.applied_index + 1, end + 1):
            entry = self.log.entry(index)
            self._outbox.emit(Apply(Entry(Viewstamp(View(entry.view), Seqno(index)), entry.data)))
        self.applied_index = end
