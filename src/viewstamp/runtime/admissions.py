"""The strangers at a node's port: what each has to prove before it is a member, an operator or a client.

The decision itself is `link.admission`, which knows no connection. This file keeps, for each connection, the
hello that is still to be proved, and gives it up with the connection.
"""

import msgspec

from viewstamp.link.acceptor import Acceptor, Greeted, Proved
from viewstamp.link.admission import Admitted, Claim, Entrance
from viewstamp.link.handshake import Doorkeeper
from viewstamp.runtime.connection import Connection, LinkStep
from viewstamp.runtime.security import Security, fresh_nonce
from viewstamp.runtime.system import wall_s


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
        decided = self._decide(connection, step)
        return _with_its_end(decided, connection) if isinstance(decided, Admitted) else decided

    def _decide(self, connection: Connection, step: LinkStep) -> Admitted | str | None:
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


def _with_its_end(decided: Admitted, connection: Connection) -> Admitted:
    """Return the decision, with the moment when the certificate that was shown expires.

    It is noticed at that moment; `rotation` looks at all connections now and then, for clocks that jump.
    """
    peer = None if connection.tls is None else connection.tls.peer
    if peer is None:
        return decided
    left_s = max(peer.not_after_s - wall_s(), 0.0)
    if decided.ends_after_s is not None and decided.ends_after_s <= left_s:
        return decided
    return msgspec.structs.replace(decided, ends_after_s=left_s, ends_because="its certificate has expired")
