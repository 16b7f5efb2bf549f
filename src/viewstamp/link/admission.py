"""From a hello to a principal: the decision about one accepted connection, in one or two steps.

    hello ──▶ Admitted | Claim | refusal           Claim: send its challenge, await the proof
    proof ──▶ Admitted | refusal

Nothing that a hello claims has an effect before it is proved, and nothing outlives the connection.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation
from viewstamp.core.principals import Role, role_of
from viewstamp.link.acceptor import Greeted
from viewstamp.link.credentials import Certified, Trust, principal_of
from viewstamp.link.handshake import Doorkeeper, Hello
from viewstamp.link.proof import Challenge, DrawNonce, Secret


class Admitted(msgspec.Struct, frozen=True):
    """The connection belongs to this principal."""

    hello: Hello
    principal: str
    incarnation: Incarnation
    """Of a member's data directory, as it has told after it was proved; 0: it has none, or was not asked."""
    ends_after_s: float | None = None
    """So long may the connection stand: what was shown ends then; None: it does not end."""
    ends_because: str = "its token has ended"

    @property
    def is_peer(self) -> bool:
        """Whether messages of the protocol come over this connection, and no others."""
        return self.hello.role == "peer"


class Bearer(msgspec.Struct, frozen=True):
    """A client whose token was verified."""

    principal: str
    left_s: float
    """Until the token ends."""


VerifyToken: TypeAlias = Callable[[str], Bearer | str]
"""Returns whom a token names, or why it is refused."""


class Claim:
    """A hello that has to be proved."""

    __slots__ = ("challenge", "hello", "principal")

    def __init__(self, hello: Hello, principal: str, challenge: Challenge) -> None:
        self.hello = hello
        self.principal = principal
        self.challenge = challenge


class Entrance:
    """The entrance of one node."""

    __slots__ = ("_cluster_id", "_doorkeeper", "_draw", "_secret", "_verify", "trust")

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        cluster_id: str,
        trust: Trust,
        secret: Secret | None,
        draw: DrawNonce,
        verify: VerifyToken | None = None,
    ) -> None:
        """`verify` None: no token is accepted here."""
        assert (secret is not None) == (trust is Trust.SECRET), trust
        self._doorkeeper = doorkeeper
        self._cluster_id = cluster_id
        self._secret = secret
        self._draw = draw
        self._verify = verify
        self.trust = trust
        """How the other ends are proved."""

    def on_hello(self, greeted: Greeted, certified: Certified | None) -> Admitted | Claim | str:
        """Return what follows from a hello; text: why it is refused.

        `certified` is what the TLS handshake of this connection has proved, where there was one.
        """
        hello = greeted.hello
        if hello.token and certified is None:
            return self._doorkeeper.refuse(hello) or self._admit_bearer(hello)
        principal, refusal = principal_of(
            self.trust, hello.role, hello.node, cluster_id=self._cluster_id, certified=certified
        )
        refusal = refusal or self._doorkeeper.refuse(hello)
        if refusal is not None:
            return refusal
        if self._secret is not None and hello.role != "client":
            return Claim(hello, principal, Challenge(self._secret, greeted.encoded, self._draw()))
        return self._admit(hello, principal, Incarnation(hello.incarnation))

    def on_proof(self, claim: Claim, proof: bytes) -> Admitted | str:
        """Return what follows from the answer to a challenge; `ProtocolViolation` where it is none."""
        incarnation = claim.challenge.incarnation_in(proof)
        if incarnation is None:
            return "the other end does not have this cluster's secret"
        return self._admit(claim.hello, claim.principal, incarnation)

    def _admit_bearer(self, hello: Hello) -> Admitted | str:
        """Return on whose behalf the token in a hello speaks. Where a certificate was shown, that counts."""
        if hello.role != "client":
            return f"a token is for clients: it was shown by a {hello.role}"
        found = "this cluster accepts no tokens" if self._verify is None else self._verify(hello.token)
        if isinstance(found, str):
            return found
        return Admitted(hello, found.principal, Incarnation(0), found.left_s)

    def _admit(self, hello: Hello, principal: str, incarnation: Incarnation) -> Admitted:
        if role_of(principal) is Role.NODE and hello.role == "peer":
            self._doorkeeper.compare(hello)
        return Admitted(hello, principal, incarnation)
