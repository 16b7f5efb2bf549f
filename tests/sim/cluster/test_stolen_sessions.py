"""A thief in a simulated cluster knows a client's number and session, and not its secret."""

import msgspec
import pytest

from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import (
    SECRET_BYTES,
    ClientMessage,
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Submit,
    encode_message,
)
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.replica.events import Failed, Outcome, Requested
from viewstamp.sim.faults.scenarios import ScenarioStage
from viewstamp.sim.workloads.clients import Plan, SimClient

ROUNDS = 20
THIEF = ClientAddress(1 << 40)
ADD = msgspec.Raw(msgspec.msgpack.encode(["add", "k1", 1_000]))
READ = msgspec.Raw(msgspec.msgpack.encode(["read", "k1"]))


class Watched(ScenarioStage):
    """Remembers how calls ended that have no result."""

    def __init__(self, protocol: str) -> None:
        self.failures: list[Failed] = []
        super().__init__(protocol, 3, {}, 1)

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            self.failures.append(outcome)
        super().completed(client, plan, outcome)


def steal(stage: ScenarioStage, node: NodeId, number: int, session: int) -> None:
    """Say to one server all that a client may say of its session."""
    words: list[ClientMessage] = [
        Identify(number, bytes(SECRET_BYTES)),
        OpenSession(number, 1),
        KeepAlive(number, session, 2),
        Submit(number, session, 0, [(1, ADD), (1 << 40, ADD)]),
        Submit(number, session, 1 << 50, []),
        Submit(number, 0, 0, [(1 << 41, ADD)]),
        QueryRequest(number, "linearizable", [(3, READ)]),
        QueryRequest(number, "stale", [(4, READ)]),
        CloseSession(number, session),
    ]
    process = stage.cluster.processes[node]
    for message in words:
        if process.running:
            process.feed(Requested(THIEF, message, encode_message(message)))


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_nothing_that_a_thief_says_touches_the_session_whoever_leads(protocol: str) -> None:
    stage = Watched(protocol)
    (client,) = stage.cluster.clients.values()
    assert stage.scenario.wait(lambda: stage.answered >= ROUNDS, 30)
    session = client.core.session
    assert session is not None
    for leader in (stage.leader(), None):
        before = stage.answered
        for node in stage.scenario.members:
            steal(stage, node, client.core.number, session)
            stage.scenario.run(0.05)
        assert stage.scenario.wait(lambda least=before + ROUNDS: stage.answered >= least, 30)  # type: ignore[misc]
        if leader is not None and not stage.by_operator:
            stage.scenario.crash(leader)
            stage.scenario.restart(leader)
    assert client.core.session == session
    assert [failure for failure in stage.failures if failure.outcome == "session_expired"] == []
