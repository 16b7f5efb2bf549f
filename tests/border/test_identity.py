"""A local user without the cluster's secret is only ever a client: the attacks that stopped clusters.

Three real processes; the stranger has the cluster file, knows the wire format, and reaches every port.
"""

import socket

import msgspec
import pytest

from tests.border.conftest import MakeVictim
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.messages import AdminReply, AdminRequest
from viewstamp.link.framing import CHALLENGE, HELLO, PEER, Splitter, encode_frame
from viewstamp.link.handshake import Doorkeeper, decode_hello
from viewstamp.link.proof import Prover, Secret
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.security import fresh_nonce
from viewstamp.testkit.hostile_wire import WITHIN_S, Attacker

VICTIM = NodeId(3)
GUESS = Secret(b"?" * 32)
HIGHEST_TERM = msgspec.msgpack.encode([2, (1 << 53) - 1, 0, 0, True, True, 1])


def pose(cluster: ClusterConfig, node: NodeId, to: NodeId, incarnation: int) -> None:
    """Say a member's hello to another member, without a proof and with a wrong one, and forge a message."""
    hello = Doorkeeper(cluster.identity(node, "leader")).greeting(to, Incarnation(incarnation))
    with Attacker(
        cluster.addresses[to], hello=encode_frame(HELLO, msgspec.msgpack.encode(hello))
    ) as stranger:
        assert not stranger.welcomed
        stranger.send(encode_frame(PEER, HIGHEST_TERM))
        assert stranger.ended()
    guessed = Prover(GUESS, hello, fresh_nonce, Incarnation(incarnation), insists=True)
    with pytest.raises(ProtocolViolation, match="secret"):
        Attacker(cluster.addresses[to], hello=guessed)


@pytest.mark.process
def test_stranger_changes_nothing_when_it_poses_as_members_and_operators(attack: MakeVictim) -> None:
    """Hellos with fresh incarnations to each node, forged terms, directives."""
    victim = attack()
    cluster = victim.group.cluster
    for to in cluster.node_ids:
        for node in cluster.node_ids:
            for incarnation in (1, 2) if node != to else ():
                pose(cluster, node, to, incarnation)
        with Attacker(cluster.addresses[to]) as client:
            client.say(AdminRequest(1, TakeSnapshot()))
            answer = client.receive(AdminReply)
            assert answer is not None
            assert "needs an operator" in str(answer.refusal)
    victim.assert_serves()
    victim.assert_unharmed()


def overheard_at(address: Address) -> set[int]:
    """Listen where a dead member did, with a wrong secret; return the members that called."""
    callers: set[int] = set()
    with socket.create_server(address) as listener:
        listener.settimeout(WITHIN_S)
        while len(callers) < 2:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(WITHIN_S)
                (frame,) = Splitter(1 << 16).split(connection.recv(1 << 16))
                hello = decode_hello(frame[1])
                assert (frame[0], hello.incarnation) == (HELLO, 0)
                callers.add(hello.node)
                connection.sendall(encode_frame(CHALLENGE, msgspec.msgpack.encode([bytes(16), bytes(32)])))
                assert connection.recv(1 << 16) == b"", "it leaves, and tells nothing"
    return callers


@pytest.mark.process
def test_members_tell_nothing_when_a_stranger_binds_a_dead_members_port(attack: MakeVictim) -> None:
    """Their incarnations and entries were what forged entries could be made of."""
    victim = attack()
    cluster = victim.group.cluster
    victim.group.servers[VICTIM].kill()
    assert overheard_at(cluster.addresses[VICTIM]) == set(cluster.node_ids) - {VICTIM}
    victim.group.start()
    victim.assert_serves()
    victim.assert_unharmed()
