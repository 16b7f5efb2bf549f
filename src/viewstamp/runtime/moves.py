"""Members that are found elsewhere than the cluster file says: by their own word, or by an operator's."""

import logging
from typing import Final

from viewstamp.core.errors import ConfigurationError, ProtocolViolation
from viewstamp.core.ids import NodeId
from viewstamp.link.handshake import Doorkeeper
from viewstamp.runtime.address_book import AddressBook
from viewstamp.runtime.addresses import Address, check_address, format_address
from viewstamp.runtime.dialing import OutgoingLink

LOG: Final = logging.getLogger("viewstamp.runtime")


class Moves:
    """Keeps links, address book and doorkeeper of one node at one."""

    __slots__ = ("_book", "_doorkeeper", "_links", "announced")

    def __init__(self, links: dict[NodeId, OutgoingLink], book: AddressBook, doorkeeper: Doorkeeper) -> None:
        self._links = links
        self._book = book
        self._doorkeeper = doorkeeper
        self.announced: list[tuple[int, str, int]] = []
        """The members as clients were last told."""

    def said(self, link: OutgoingLink, advertised: Address) -> None:
        """Take the address that a member says it has: those in the cluster file are hints.

        Raises:
            ProtocolViolation: it cannot be an address.
        """
        try:
            address = check_address(*advertised)
        except ConfigurationError as error:
            raise ProtocolViolation(f"node {link.peer} advertises what is not an address: {error}") from error
        if address != link.address:
            LOG.info("node %d is reached at %s from now on", link.peer, format_address(address))
            link.address = address
            self._doorkeeper.move(link.peer, address)

    def silent(self, peer: NodeId) -> None:
        """Forget where a member said that it is: its word holds as long as its connection."""
        link, address = self._links.get(peer), self._book.address_of(peer)
        if link is not None and address is not None and link.address != address:
            link.address = address
            self._doorkeeper.move(peer, None)

    def told(self, node: NodeId, address: Address) -> None:
        """Take the address that an operator names."""
        link = self._links.get(node)
        if self._book.learn(node, address) and link is not None:
            link.address = check_address(*address)
            link.hurry()
        self._doorkeeper.move(node, self._book.address_of(node))
