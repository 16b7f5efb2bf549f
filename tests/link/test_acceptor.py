"""The end that accepts a connection: one hello, one answer, then one kind of message."""

import pytest

from tests.link.test_handshake import CLIENT_HELLO, PEER_HELLO, identity
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant
from viewstamp.link.acceptor import Acceptor, Greeted
from viewstamp.link.framing import CLIENT, HELLO, PEER, REFUSAL, SERVER, WELCOME, encode_frame
from viewstamp.link.handshake import Doorkeeper, encode_hello, encode_refusal

UNTIL = Instant(5)
WELCOME_PAYLOAD = Doorkeeper(identity(1)).welcome


def greeted(*, is_peer: bool = False) -> Acceptor:
    """Return an acceptor that has been told hello."""
    made = Acceptor(4_096, UNTIL)
    (event,) = made.receive(encode_frame(HELLO, encode_hello(PEER_HELLO if is_peer else CLIENT_HELLO)))
    assert isinstance(event, Greeted)
    return made


def accepted(*, is_peer: bool = False) -> Acceptor:
    made = greeted(is_peer=is_peer)
    made.accept(WELCOME_PAYLOAD, is_peer=is_peer, frame_bytes_max=100)
    assert made.out.take() == encode_frame(WELCOME, WELCOME_PAYLOAD)
    return made


def test_deadline_stands_until_a_hello_has_come() -> None:
    made = Acceptor(4_096, UNTIL)
    assert made.deadline == UNTIL
    assert list(made.receive(b"VS")) == []
    assert made.in_frame
    assert made.deadline == UNTIL
    assert greeted().deadline is None


@pytest.mark.parametrize(("is_peer", "kind"), [(True, PEER), (False, CLIENT)])
def test_messages_come_when_they_are_of_the_kind_that_the_role_sends(is_peer: bool, kind: int) -> None:
    made = accepted(is_peer=is_peer)
    assert list(made.receive(encode_frame(kind, b"a") + encode_frame(kind, b"b"))) == [b"a", b"b"]


def test_messages_after_the_hello_wait_for_the_answer_when_they_come_with_it() -> None:
    made = Acceptor(4_096, UNTIL)
    events = iter(made.receive(encode_frame(HELLO, encode_hello(CLIENT_HELLO)) + encode_frame(CLIENT, b"a")))
    assert isinstance(next(events), Greeted)
    made.accept(WELCOME_PAYLOAD, is_peer=False, frame_bytes_max=100)
    assert list(events) == [b"a"]


def test_answer_is_a_refusal_of_one_line_when_the_hello_is_refused() -> None:
    made = greeted()
    made.refuse("full")
    assert made.out.take() == encode_frame(REFUSAL, encode_refusal("full"))
    with pytest.raises(ProtocolViolation, match="without a welcome"):
        list(made.receive(encode_frame(CLIENT, b"a")))


@pytest.mark.parametrize("kind", [WELCOME, REFUSAL, PEER, CLIENT, SERVER])
def test_first_frame_is_a_violation_when_it_is_not_a_hello(kind: int) -> None:
    with pytest.raises(ProtocolViolation, match="first frame"):
        list(Acceptor(4_096, UNTIL).receive(encode_frame(kind, b"x")))


@pytest.mark.parametrize("kind", [HELLO, WELCOME, REFUSAL, PEER, SERVER])
def test_frame_of_a_client_is_a_violation_when_its_kind_is_anothers(kind: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"kind {kind} may not come from a client"):
        list(accepted().receive(encode_frame(kind, b"x")))


def test_frame_is_refused_by_its_length_when_the_welcome_allows_less() -> None:
    with pytest.raises(ProtocolViolation, match="over the limit"):
        list(accepted().receive(encode_frame(CLIENT, bytes(101))))
