"""Challenge and proof: who has the secret, what is told to whom, and what cannot be used a second time."""

import contextlib
from random import Random

import msgspec
import pytest

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.link.acceptor import Acceptor, Greeted, Proved
from viewstamp.link.admission import Admitted, Claim, Entrance
from viewstamp.link.credentials import Trust
from viewstamp.link.dialer import Challenged, Dialer, DialLimits, Welcomed
from viewstamp.link.framing import CHALLENGE, PEER, PROOF, WELCOME, Splitter, encode_frame
from viewstamp.link.handshake import Doorkeeper, Hello, Identity, decode_hello, hello_of
from viewstamp.link.proof import NONCE_BYTES, Challenge, Prover, Secret

OURS, ANOTHER = Secret(b"k" * 32), Secret(b"x" * 32)
INCARNATION = Incarnation(77)
NOW = Instant(1_000)
CHALLENGE_BYTES = (
    "92c41000000000000000000000000000000000c4"
    "203f641b47202d48aa8052e705ffeeaeceba80620b780e8c561844dc1de4ab46ec"
)
PROOF_BYTES = "924dc42004b0b89986252c09ca6a285a9511a90606fc87d57ba9e95ca0b3df7be7548b6f"
LIMITS = DialLimits(
    hello_bytes_max=4096,
    frame_bytes_max=4096,
    send_bytes_max=4096,
    dial_timeout_ms=1_000,
    backoff_min_ms=10,
    backoff_max_ms=100,
)


def door(node: int) -> Doorkeeper:
    addresses = {NodeId(each): ("h", each) for each in (1, 2, 3)}
    return Doorkeeper(Identity("mine", "raft", NodeId(node), "leader", addresses, addresses.get))


class Numbers:
    """Nonces that can be foreseen by a test."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(NONCE_BYTES, "big")


def prover(secret: Secret = OURS, hello: Hello | None = None) -> Prover:
    return Prover(
        secret, hello or door(2).greeting(NodeId(1), INCARNATION), Numbers(), INCARNATION, insists=True
    )


def entrance(secret: Secret = OURS, draw: Numbers | None = None) -> Entrance:
    return Entrance(door(1), "mine", Trust.SECRET, secret, draw or Numbers())


def greeted(encoded: bytes) -> Greeted:
    return Greeted(decode_hello(encoded), encoded)


def claim_of(encoded: bytes, at: Entrance) -> Claim:
    claim = at.on_hello(greeted(encoded), None)
    assert isinstance(claim, Claim)
    return claim


def test_member_is_admitted_with_its_incarnation_when_both_have_the_secret() -> None:
    member, node = prover(), entrance()
    claim = claim_of(member.begin(), node)
    admitted = node.on_proof(claim, member.answer(claim.challenge.frame))
    assert isinstance(admitted, Admitted)
    assert (admitted.principal, admitted.incarnation, admitted.is_peer) == ("node/2", INCARNATION, True)


def test_hello_tells_no_incarnation_when_the_server_is_not_proved() -> None:
    assert decode_hello(prover().begin()).incarnation == 0


def test_member_tells_nothing_when_the_server_has_another_secret() -> None:
    """An impostor at the port of a dead member hears a hello, and nothing else."""
    member, impostor = prover(), entrance(ANOTHER)
    claim = claim_of(member.begin(), impostor)
    with pytest.raises(ProtocolViolation, match="has not shown that it has the same secret"):
        member.answer(claim.challenge.frame)


def test_stranger_is_refused_when_it_has_another_secret() -> None:
    stranger, node = prover(), entrance(ANOTHER)
    claim = claim_of(stranger.begin(), node)
    forged = Challenge(OURS, stranger._sent, msgspec.msgpack.decode(claim.challenge.frame)[0])
    assert isinstance(node.on_proof(claim, stranger.answer(forged.frame)), str)


def test_proof_is_refused_when_it_was_made_for_another_connection() -> None:
    member, node = prover(), entrance()
    first = claim_of(member.begin(), node)
    overheard = member.answer(first.challenge.frame)
    assert isinstance(node.on_proof(first, overheard), Admitted)
    again = claim_of(member._sent, node)
    assert isinstance(node.on_proof(again, overheard), str)


@pytest.mark.parametrize("field", ["node", "to", "role", "advertise"])
def test_proof_is_refused_when_the_hello_was_changed_on_its_way(field: str) -> None:
    changed = {"node": 3, "to": -1, "role": "operator", "advertise": ("elsewhere", 1)}
    member, node = prover(), entrance()
    hello = decode_hello(member.begin())
    other = msgspec.msgpack.encode(msgspec.structs.replace(hello, **{field: changed[field]}))
    claim = claim_of(other, node)
    with pytest.raises(ProtocolViolation):
        member.answer(claim.challenge.frame)


def test_incarnation_is_covered_when_it_is_changed_in_the_proof() -> None:
    member, node = prover(), entrance()
    claim = claim_of(member.begin(), node)
    _, code = msgspec.msgpack.decode(member.answer(claim.challenge.frame))
    assert isinstance(node.on_proof(claim, msgspec.msgpack.encode([5, code])), str)


def test_answer_of_an_acceptor_is_no_proof_when_it_is_sent_back() -> None:
    member, node = prover(), entrance()
    claim = claim_of(member.begin(), node)
    _, code = msgspec.msgpack.decode(claim.challenge.frame)
    assert isinstance(node.on_proof(claim, msgspec.msgpack.encode([INCARNATION, code])), str)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x90", b"\x92\x01\xc4\x00", b"\x92\xff\xc4\x00", b"\x91" * 2000]
)
def test_proof_is_a_violation_or_refused_when_it_is_anything(payload: bytes) -> None:
    node = entrance()
    claim = claim_of(prover().begin(), node)
    with contextlib.suppress(ProtocolViolation):
        assert isinstance(node.on_proof(claim, payload), str)
    with pytest.raises(ProtocolViolation):
        prover().answer(payload)


def test_client_is_anonymous_when_it_says_so_and_an_operator_is_asked() -> None:
    node = entrance()
    hello = msgspec.msgpack.encode(hello_of("mine", NodeId(1)))
    admitted = node.on_hello(greeted(hello), None)
    assert isinstance(admitted, Admitted)
    assert admitted.principal == "anonymous"
    operator = prover(hello=hello_of("mine", NodeId(1), operator=True))
    claim = claim_of(operator.begin(), node)
    decided = node.on_proof(claim, operator.answer(claim.challenge.frame))
    assert isinstance(decided, Admitted)
    assert (decided.principal, decided.is_peer) == (LOCAL_OPERATOR, False)


def test_codes_are_those_of_version_one() -> None:
    member = prover()
    assert member.begin().hex().endswith("c41000000000000000000000000000000001a000")
    member._sent = b"a hello"
    challenge = Challenge(OURS, member._sent, bytes(NONCE_BYTES))
    assert challenge.frame.hex() == CHALLENGE_BYTES
    assert member.answer(challenge.frame).hex() == PROOF_BYTES


# Both ends of a link


def dialer(secret: Secret = OURS) -> Dialer:
    made = Dialer(prover(secret), PEER, LIMITS, Random(1))
    made.start(NOW)
    made.advance(NOW)
    made.opened(NOW)
    return made


def test_link_stands_when_both_ends_have_proved_themselves() -> None:
    one, other, node = dialer(), Acceptor(4096, Instant(NOW + 9)), entrance()
    (event,) = other.receive(one.out.take())
    assert isinstance(event, Greeted)
    claim = node.on_hello(event, None)
    assert isinstance(claim, Claim)
    other.challenge(claim.challenge.frame)
    assert other.deadline is not None
    assert list(one.receive(other.out.take())) == [Challenged()]
    (proved,) = other.receive(one.out.take())
    assert isinstance(proved, Proved)
    assert isinstance(node.on_proof(claim, proved.proof), Admitted)
    other.accept(door(1).welcome, is_peer=True, frame_bytes_max=4096)
    (welcomed,) = one.receive(other.out.take())
    assert isinstance(welcomed, Welcomed)
    one.send(b"entries")
    assert list(other.receive(one.out.take())) == [b"entries"]


def test_link_is_given_up_when_a_server_welcomes_without_a_challenge() -> None:
    one = dialer()
    with pytest.raises(ProtocolViolation, match="has not shown that it has the same secret"):
        list(one.receive(encode_frame(WELCOME, door(1).welcome)))
    assert not one.is_up


def test_second_challenge_gets_a_proof_of_its_own_and_never_ends_the_first() -> None:
    one = dialer()
    with pytest.raises(ProtocolViolation):
        list(one.receive(encode_frame(CHALLENGE, b"\x92\xc4\x00\xc4\x00")))


@pytest.mark.parametrize("kind", [PEER, WELCOME, CHALLENGE])
def test_other_frames_are_violations_when_a_proof_is_awaited(kind: int) -> None:
    other, node = Acceptor(4096, NOW), entrance()
    (event,) = other.receive(dialer().out.take())
    assert isinstance(event, Greeted)
    claim = node.on_hello(event, None)
    assert isinstance(claim, Claim)
    other.challenge(claim.challenge.frame)
    with pytest.raises(ProtocolViolation, match="not a proof"):
        list(other.receive(encode_frame(kind, b"x")))


def test_proof_is_a_violation_when_nothing_was_asked() -> None:
    with pytest.raises(ProtocolViolation, match="not a hello"):
        list(Acceptor(4096, NOW).receive(encode_frame(PROOF, b"x")))
    assert list(Splitter(9).split(encode_frame(PROOF, b"x"))) == [(PROOF, b"x")]


def test_secret_is_not_shown_when_it_is_printed() -> None:
    assert "kkkk" not in f"{OURS!r} {OURS}"
