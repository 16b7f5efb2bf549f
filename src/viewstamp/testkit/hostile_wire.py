"""A connection that says what it likes, and what an honest operator sees meanwhile."""

import socket
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import Final, Self, TypeVar

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.messages import (
    SECRET_BYTES,
    AskStatus,
    ClientMessage,
    Identify,
    ServerMessage,
    StatusReply,
    client_number,
    decode_server_message,
    encode_message,
)
from viewstamp.link.framing import CHALLENGE, CLIENT, HELLO, PROOF, SERVER, WELCOME, Splitter, encode_frame
from viewstamp.link.handshake import Doorkeeper, client_hello
from viewstamp.link.proof import Prover
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.security import fresh_nonce

T = TypeVar("T", bound=ServerMessage)
FROM: Final = "127.0.0.2"
"""Another address of this machine than the one that honest clients come from."""
WITHIN_S: Final = 10.0
_READ_BYTES: Final = 1 << 16
_FRAME_BYTES_MAX: Final = 64 << 20


def member_prover(cluster: ClusterConfig, node: NodeId, to: NodeId, incarnation: int) -> Prover:
    """Return what says and proves the hello of a member; a holder of the cluster's secret can make it."""
    keeper = Doorkeeper(cluster.identity(node, protocol_definition(cluster.protocol).write_routing))
    hello = keeper.greeting(to, Incarnation(incarnation))
    return Prover(cluster.local_secret, hello, fresh_nonce, Incarnation(incarnation), insists=True)


def secret_of(client: int) -> bytes:
    """Return the secret of a test's client, which has a place and no chance in it."""
    return client.to_bytes(SECRET_BYTES, "big")


class Attacker:
    """One connection. Every wait has a bound; a connection that the server ends is `closed`."""

    def __init__(
        self,
        address: Address,
        *,
        hello: bytes | Prover | None = None,
        source: str = FROM,
        within_s: float = WITHIN_S,
    ) -> None:
        """Connect, and say hello as a client unless told to say something else; b"": say nothing."""
        self._within_s = within_s
        self._socket = socket.create_connection(address, timeout=within_s, source_address=(source, 0))
        self._splitter = Splitter(_FRAME_BYTES_MAX)
        self._frames: deque[tuple[int, bytes]] = deque()
        self.closed = False
        self.welcomed = False
        first = encode_frame(HELLO, client_hello("", None)) if hello is None else hello
        if first:
            self.welcomed = self._greet(first)

    def _greet(self, first: bytes | Prover) -> bool:
        try:
            return self._answer_to(first) == WELCOME
        except BaseException:
            self.close()
            raise

    def _answer_to(self, first: bytes | Prover) -> int:
        """Return the kind of the frame that answers our hello, and our proof if one is wanted."""
        if not isinstance(first, Prover):
            self.send(first)
            return self.receive_frame()[0]
        self.send(encode_frame(HELLO, first.begin()))
        kind, payload = self.receive_frame()
        if kind == CHALLENGE:
            self.send(encode_frame(PROOF, first.answer(payload)))
            kind, _ = self.receive_frame()
        return kind

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; without effect where the server has ended the connection."""
        try:
            self._socket.sendall(data)
        except (ConnectionError, BrokenPipeError):
            self.closed = True

    def speak_for(self, client: int) -> int:
        """Show the secret of the client that has this place among a test's clients; return its number."""
        secret = secret_of(client)
        self.say(Identify(client_number(secret), secret))
        return client_number(secret)

    def say(self, *messages: ClientMessage) -> None:
        """Send well-made messages of a client."""
        self.send(b"".join(encode_frame(CLIENT, encode_message(message)) for message in messages))

    def receive_frame(self) -> tuple[int, bytes]:
        """Return the next frame; (0, b"") at the end of the connection.

        Raises:
            TimeoutError: nothing came.
        """
        deadline = monotonic() + self._within_s
        while not self._frames:
            self._socket.settimeout(max(0.01, deadline - monotonic()))
            try:
                data = self._socket.recv(_READ_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                self.closed = True
                return 0, b""
            self._frames += self._splitter.split(data)
        return self._frames.popleft()

    def receive(self, kind: type[T]) -> T | None:
        """Return the next message of this kind, passing over others; None at the end of the connection."""
        while True:
            found, payload = self.receive_frame()
            if found == 0:
                return None
            if found == SERVER and isinstance(message := decode_server_message(payload), kind):
                return message

    def finish(self) -> None:
        """Send no more, and read what comes until the server has ended the connection too."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has ended it already
        self.ended()

    def ended(self) -> bool:
        """Return whether the server ends this connection in time, whatever it says before."""
        try:
            while not self.closed:
                self.receive_frame()
        except (TimeoutError, ProtocolViolation):
            return False
        return True


def status_within(address: Address, *, source: str = "127.0.0.1", within_s: float = WITHIN_S) -> float:
    """Return how many seconds a node takes to tell an operator how it is, from the first SYN to the answer.

    Raises:
        TimeoutError, OSError: it did not.
    """
    began = monotonic()
    with Attacker(address, source=source, within_s=within_s) as operator:
        operator.say(AskStatus(1))
        if operator.receive(StatusReply) is None:
            raise ConnectionError("the node ended an operator's connection")
    return monotonic() - began


def slowest_status(
    addresses: Iterable[Address], busy: Callable[[], bool], *, within_s: float = WITHIN_S
) -> float:
    """Ask nodes for their status while something goes on; return the longest answer in seconds."""
    slowest = 0.0
    known = list(addresses)
    while busy():
        for address in known:
            slowest = max(slowest, status_within(address, within_s=within_s))
    return slowest


def resident_bytes(pid: int) -> int:
    """Return how much memory a process of this machine has now (Linux)."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123  a file of the kernel's
        return int(file.read().split()[1]) * 4096


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process of this machine ever had (Linux)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123  a file of the kernel's
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) << 10
