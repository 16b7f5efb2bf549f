"""What a trace tells of roles, of the state, and of messages that never arrive."""

import io
import json
from typing import Any

import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.cluster.narrator import described
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute


def traced(protocol: str, seed: int) -> list[dict[str, Any]]:
    plan = RunPlan(protocol, seed, nodes=3, workload="tally", without=("membership",))
    sink = io.StringIO()
    assert execute(plan, sink=sink) == execute(plan)
    return [json.loads(line) for line in sink.getvalue().splitlines()]


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_trace_shows_the_leader_and_what_is_applied(protocol: str) -> None:
    lines = traced(protocol, 3)
    leaders = {(line["view"], line["leader"]) for line in lines if line["kind"] == "role"}
    assert any(leader is not None for _, leader in leaders)
    firsts = [line for line in lines if line["kind"] == "apply" and line["first"]]
    numbers = [int(line["entry"].partition(".")[2]) for line in firsts]
    assert numbers == list(range(1, len(numbers) + 1))
    assert any("'add', 'k" in command for line in firsts for command in line["commands"])
    last = {line["node"]: line["seqno"] for line in lines if line["kind"] == "committed"}
    assert set(last.values()) == {numbers[-1]}


def test_trace_shows_the_fate_of_a_message_when_the_network_is_bad() -> None:
    lines = traced("raft", 4)
    sent = [line for line in lines if line["kind"] == "send"]
    fates = {fate for line in sent for fate in line["fate"]}
    assert {"lost", "cut off"} <= fates
    arrived = {(line["source"], line["node"], line["message"]) for line in lines if line["kind"] == "receive"}
    gone = [line for line in sent if line["fate"] == ["lost"]]
    said = {(line["node"], line["to"], line["message"]) for line in sent if line["fate"] != ["lost"]}
    for line in gone:
        message = (line["node"], line["to"], line["message"])
        assert message not in arrived or message in said, line


def test_entry_that_cannot_be_read_is_shown_by_its_size() -> None:
    assert described(b"\xc1\xff") == ["2 bytes"]
    assert described(b"") == []
