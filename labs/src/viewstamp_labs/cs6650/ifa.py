"""The idle factory's admin (2.3.3): writes what the production factory's admin sends, and answers.

He sits at the connection that the PFA opened, in the place of an engineer, and is there as long as it stands
(3.1.1). The core behind him writes operations to the log, applies what the PFA says is committed, all of it,
and sets `primary_id`; when the primary's connection breaks, it has no primary. A connection of an
older primary that breaks means nothing: only that of the present one counts.
"""

from collections.abc import Callable
from typing import Any

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import PeerDown, Received
from viewstamp.core.ids import NodeId
from viewstamp_labs.cs6650.factory import Factory
from viewstamp_labs.cs6650.stubs import ServerStub
from viewstamp_labs.cs6650.translation import message_of, response_of


class IdleFactoryAdmins:
    """The IFAs of one factory: one for each other factory that is or was the production factory."""

    def __init__(self, factory: Factory, peers: frozenset[NodeId], changed: Callable[[], None]) -> None:
        self.factory = factory
        self.peers = peers
        self.changed = changed
        """Called after each request: our own PFA may have lost his role by it."""
        self._at_work: dict[NodeId, IdleFactoryAdmin] = {}
        """The newest IFA for each factory that has sent a request and is connected."""

    def make(self, stub: ServerStub) -> "IdleFactoryAdmin":
        """Return the admin for a connection that a PFA opened."""
        return IdleFactoryAdmin(self, stub)

    def take_over(self, factory_id: NodeId, admin: "IdleFactoryAdmin") -> None:
        """Note that this admin, and no older one, serves that factory."""
        self._at_work[factory_id] = admin

    def resign(self, factory_id: NodeId, admin: "IdleFactoryAdmin") -> None:
        """The connection of this admin is closed; if it was the primary's, the primary is gone."""
        if self._at_work.get(factory_id) is admin:
            del self._at_work[factory_id]
            if self.factory.core.primary_id == factory_id:
                self.factory.feed(PeerDown(factory_id))

    def send(self, to: NodeId, reply: Any) -> bool:
        """Send an answer of the core back to the PFA that asked. Answers to the dead are lost."""
        admin = self._at_work.get(to)
        if admin is not None:
            admin.stub.respond(response_of(reply))
        return True


class IdleFactoryAdmin:
    """The IFA at one connection. Inactive while its own factory produces."""

    is_waiting = False

    def __init__(self, office: IdleFactoryAdmins, stub: ServerStub) -> None:
        self._office = office
        self.stub = stub
        self._factory_id: NodeId | None = None
        """Whose PFA speaks here, known from his first request."""

    def work(self) -> None:
        """Feed the requests that have come to the core.

        Raises:
            ProtocolViolation: they are of nobody's whom we know, or of two.
        """
        while (request := self.stub.receive_replication()) is not None:
            source = NodeId(request.factory_id)
            if self._factory_id is None:
                self._introduce(source)
            if source != self._factory_id:
                raise ProtocolViolation(
                    f"factory {source} speaks over the line of factory {self._factory_id}"
                )
            self._office.factory.feed(Received(source, message_of(request)))
        self._office.changed()

    def gone(self) -> None:
        """The PFA is gone: this admin's work ends (3.1.1)."""
        if self._factory_id is not None:
            self._office.resign(self._factory_id, self)

    def _introduce(self, source: NodeId) -> None:
        if source not in self._office.peers:
            raise ProtocolViolation(f"there is no factory {source} beside this one")
        self._factory_id = source
        self._office.take_over(source, self)
