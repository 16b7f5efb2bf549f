"""The frames of clients that came when a turn had lasted long enough: the connections take turns.

While a connection has frames here it is not read from. What one client sends at once therefore costs the
others one frame's work for each of their own. A connection whose replies are not read is passed over.
"""

from collections import deque

from viewstamp.runtime.connection import Connection


class Backlog:
    """Whole frames that wait, by connection."""

    __slots__ = ("_deaf", "queues", "size_bytes")

    def __init__(self) -> None:
        self.queues: dict[Connection, deque[bytes]] = {}
        """What may be taken; the first has its turn next. No queue is empty. Read-only for callers."""
        self._deaf: dict[Connection, deque[bytes]] = {}
        """Those of connections that do not read their replies."""
        self.size_bytes = 0
        """Of all frames. Read-only for callers."""

    def put(self, connection: Connection, payload: bytes) -> None:
        """Add a frame, and read no more from its connection until it has its turn."""
        queue = self.queues.get(connection) or self._deaf.get(connection)
        if queue is None:
            queue = self.queues[connection] = deque()
            connection.hold(held=True)
        queue.append(payload)
        self.size_bytes += len(payload)

    def take(self) -> tuple[Connection, bytes] | None:
        """Remove the next frame, one connection after the other; None: there is none."""
        while self.queues:
            connection = next(iter(self.queues))
            queue = self.queues.pop(connection)
            if connection.is_full:
                connection.flush()
            if connection.is_stalled:
                self._deaf[connection] = queue
                continue
            payload = queue.popleft()
            self.size_bytes -= len(payload)
            if queue:
                self.queues[connection] = queue
            else:
                connection.hold(held=False)
            return connection, payload
        return None

    def heard(self, connection: Connection) -> bool:
        """A connection reads its replies again; return whether frames of it wait."""
        queue = self._deaf.pop(connection, None)
        if queue is not None:
            self.queues[connection] = queue
        return queue is not None

    def drop(self, connection: Connection) -> None:
        """A connection has ended."""
        for queues in (self.queues, self._deaf):
            queue = queues.pop(connection, ())
            self.size_bytes -= sum(map(len, queue))
