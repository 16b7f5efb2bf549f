"""The strangers at a node's port: what each has to prove before it is a member, an operator or a client.

The decision itself is `link.admission`, which knows no connection. This file keeps, for each connection, the
hello that is still to be proved, and gives it up with the connection.
"""

from viewstamp.link.acceptor import Acceptor, Greeted, Proved
from viewstamp.link.admission import Admitted, Claim, Entrance
from viewstamp.link.handshake import Doorkeeper
from viewstamp.runtime.connection import Connection, LinkStep
from viewstamp.runtime.security import Security, fresh_nonce


class Admissions:
    """The claims of one node's strangers."""

    __slots__ = ("_claims", "_entrance")

    def __init__(self, doorkeeper: Doorkeeper, cluster_id: str, security: Security) -> None:
        self._entrance = Entrance(
            doorkeeper, cluster_id, security.trust, security.secret, fresh_nonce, security.verify
        )
        self._claims: dict[Connection, Claim] = {}
        """Hellos that are to be proved, by connection."""

    def __len__(self) -> int:
        """Return how many hellos are to be proved."""
        return len(self._claims)

    def decide(self, connection: Connection, step: LinkStep) -> Admitted | str | None:
        """Return what follows from a step of the handshake; None: the other end has to prove its hello first.

        Text is the reason why it is refused. `ProtocolViolation` where the step is not what was asked for.
        """
        if isinstance(step, Proved):
            return self._entrance.on_proof(self._claims.pop(connection), step.proof)
        assert isinstance(step, Greeted), step
        tls = connection.tls
        certified = None if tls is None or tls.peer is None else tls.peer.certified
        if isinstance(certified, str):
            return certified
        decided = self._entrance.on_hello(step, certified)
        if not isinstance(decided, Claim):
            return decided
        self._claims[connection] = decided
        assert isinstance(connection.link, Acceptor)
        connection.link.challenge(decided.challenge.frame)
        connection.flush()
        return None

    def forget(self, connection: Connection) -> None:
        """It has ended."""
        self._claims.pop(connection, None)
