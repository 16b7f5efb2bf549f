"""Simulated clients: what they send by themselves, beside what the client core tells them to."""

import pytest
from msgspec import Raw

from tests.sim.faults.test_stories import SECOND_US, Adding
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import EXPIRED, REFUSED, RESULT, Results, Submit, encode_message
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.workloads.workload import TallyWorkload
from viewstamp.sim.world.options import LoadOptions, SwarmOptions
from viewstamp.sim.world.trace import Trace


@pytest.mark.parametrize(("kind", "sent"), [(RESULT, 1), (EXPIRED, 1), (REFUSED, 0)])
def test_command_is_sent_once_more_only_when_its_fate_is_settled(kind: int, sent: int) -> None:
    """A refused one is not executed as far as the client core knows of copies: this one it does not know."""
    definition = protocol_definition("raft")
    cluster = Cluster(definition, SwarmOptions("raft", 3), 1, TallyWorkload(LoadOptions()), Trace())
    for node in cluster.members:
        cluster.start(node)
    client = cluster.add_client(Adding())
    cluster.world.run_until(SECOND_US)
    client.resend = 1.0
    answer = encode_message(Results(client.core.number, 0, [(7, kind, Raw(b"\x01"))]))
    client.deliver(client._connections[NodeId(0)], answer)
    command = Submit(client.core.number, 1, 0, [(7, Raw(b"\x90"))])
    client._send_again(command, encode_message(command))
    assert client.host.network.counts["command sent again"] == sent
