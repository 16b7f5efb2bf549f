"""Which client can be reached over which connection, and which of them wait for an answer from here."""

from viewstamp.core.ids import ClientAddress


class Audience:
    """Clients by number. One connection may speak for several; the newest connection of a client counts."""

    __slots__ = ("_addresses", "_clients", "_clients_max", "arrived", "waiting")

    def __init__(self, clients_max: int) -> None:
        self._clients_max = clients_max
        self._addresses: dict[int, ClientAddress] = {}
        self._clients: dict[ClientAddress, set[int]] = {}
        """Inverse of `_addresses`: no set is empty."""
        self.waiting: set[int] = set()
        """Clients whose commands were taken in here since the last redirect; all are in `_addresses`."""
        self.arrived: set[int] = set()
        """Clients that appeared, or came back over another connection, since this was last emptied."""

    def __len__(self) -> int:
        return len(self._addresses)

    def note(self, client: int, source: ClientAddress) -> None:
        """Remember where this client is reached."""
        if self._addresses.get(client) == source:
            return
        self._forget(client)
        while len(self._addresses) >= self._clients_max:
            self._forget(next(iter(self._addresses)))
        self._addresses[client] = source
        self._clients.setdefault(source, set()).add(client)
        self.arrived.add(client)

    def address_of(self, client: int) -> ClientAddress | None:
        """Return the connection of this client; None where it has none here."""
        return self._addresses.get(client)

    def gone(self, source: ClientAddress) -> None:
        """Forget a connection that was closed."""
        for client in tuple(self._clients.get(source, ())):
            self._forget(client)

    def idle(self) -> list[tuple[int, ClientAddress]]:
        """Return the clients that do not wait for commands, with their connections."""
        return [item for item in self._addresses.items() if item[0] not in self.waiting]

    def all_arrive(self) -> None:
        """Treat every client as one that just came: this replica leads now."""
        self.arrived.update(self._addresses)

    def _forget(self, client: int) -> None:
        source = self._addresses.pop(client, None)
        if source is None:
            return
        self.waiting.discard(client)
        self.arrived.discard(client)
        clients = self._clients[source]
        clients.discard(client)
        if not clients:
            del self._clients[source]
