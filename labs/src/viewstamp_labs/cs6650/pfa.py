"""The production factory's admin (2.3.2): the one who records orders, and has them replicated.

There is one in every factory, and he does nothing until an engineer of his factory asks for an update. Then
his factory is the production factory (2.2):

1. he takes the request;
2. if his factory did not produce until now, he connects to all the others, and brings their logs up to his;
3. he appends the operation to the log;
4. he sends it to the idle factories' admins, one after the other, and waits for their answers; those that are
   dead are left out, and dialled again with the next request;
5. when all that live have it, it is applied to the records, and the engineer hears of it.

Steps 2 to 5 are the protocol's core; this file feeds it and holds the connections.
"""

from collections import deque
from typing import Any

import msgspec

from viewstamp.core.events import PeerDown, PeerUp, Proposed, Received
from viewstamp.core.ids import NodeId, Viewstamp
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.system import Clock
from viewstamp.services.records import MapOp
from viewstamp_labs.cs6650.engineer import Engineer
from viewstamp_labs.cs6650.factory import Factory
from viewstamp_labs.cs6650.messages import ReplicationResponse, pack_operation
from viewstamp_labs.cs6650.peer_connections import Line, make_lines
from viewstamp_labs.cs6650.translation import reply_of, request_of


class Update(msgspec.Struct, frozen=True, gc=False):
    """An engineer's request to record an operation."""

    operation: MapOp
    engineer: Engineer


class ProductionFactoryAdmin:
    """The PFA. Inactive while its factory is idle."""

    def __init__(self, factory: Factory, peers: dict[NodeId, Address], clock: Clock) -> None:
        self._factory = factory
        self._waiting: deque[Update] = deque()
        """Requests in the order in which they came; each engineer has one at most."""
        self._current: Update | None = None
        """The request that is being replicated."""
        self._is_working = False
        self.lines: dict[NodeId, Line] = make_lines(peers, self, clock)

    def request_update(self, operation: MapOp, engineer: Engineer) -> None:
        """Take an engineer's request; the engineer is told when it is recorded."""
        self._waiting.append(Update(operation, engineer))
        for line in self.lines.values():
            if not line.is_up:
                line.call()
        self.work()

    def work(self) -> None:
        """Go on with the requests, as far as the log takes them."""
        if self._is_working:
            return
        self._is_working = True
        try:
            while self._may_go_on():
                self._current = self._waiting.popleft()
                self._factory.feed(Proposed(pack_operation(self._current.operation)))
        finally:
            self._is_working = False

    def _may_go_on(self) -> bool:
        if self._current is not None and not self._factory.is_production:
            self._give_up()
        return (
            bool(self._waiting)
            and self._current is None
            and self._factory.core.accepting
            and not any(line.is_awaited for line in self.lines.values())
        )

    def _give_up(self) -> None:
        """Another factory has become the production factory, against the rules (2.2), and has our place."""
        lost, self._current = self._current, None
        assert lost is not None
        lost.engineer.not_recorded()

    def applied(self, viewstamp: Viewstamp) -> None:
        """An operation was applied to the records: if it is the one that is waited for, say so.

        It is, if it first entered a log in the present takeover: in this factory's one there is one operation
        at a time. Those of earlier takeovers are applied when this factory takes over.
        """
        is_own = self._factory.is_production and viewstamp.view == self._factory.core.view
        if self._current is not None and is_own:
            recorded, self._current = self._current, None
            recorded.engineer.recorded(self._factory.factory_id)

    def send(self, to: NodeId, message: Any) -> bool:
        """Send a question of the core to an idle factory's admin; False where there is no connection."""
        return self.lines[to].send(request_of(message))

    def close(self) -> None:
        """Hang up on everybody."""
        for line in self.lines.values():
            line.close()

    # What the lines tell

    def line_up(self, peer: NodeId) -> None:
        """An idle factory can be replicated to."""
        self._factory.feed(PeerUp(peer))
        self.work()

    def line_down(self, peer: NodeId) -> None:
        """An idle factory is out: from now on what all the others have is committed (3.1.2)."""
        self._factory.feed(PeerDown(peer))
        self.work()

    def answered(self, peer: NodeId, response: ReplicationResponse) -> None:
        """An idle factory's admin has answered (step 4c)."""
        self._factory.feed(Received(peer, reply_of(response)))
        self.work()

    def patience_over(self) -> None:
        """A dial takes too long to wait for."""
        self.work()
