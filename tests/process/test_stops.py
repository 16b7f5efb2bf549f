"""What a server leaves behind when it is asked to stop, with real processes."""

import signal

import pytest

from tests.process.conftest import MakeGroup
from tests.process.scale import Endless, Scale
from viewstamp.runtime.connecting import connect
from viewstamp.testkit.load import wait_for_leader, wait_for_level, wait_until
from viewstamp.testkit.processes import SETTINGS, ServerGroup, ServerProcess

pytestmark = pytest.mark.process

CALLS = 20
LEAVES = "leaves a snapshot before it stops"
WITHOUT = "stops without a last snapshot"


def logged(server: ServerProcess) -> str:
    return server.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
async def test_no_entry_is_executed_again_when_the_code_changes_after_a_stop(
    make_group: MakeGroup, protocol: str
) -> None:
    group = make_group(3, protocol=protocol, arguments=["tests.process.scale:Scale"])
    await wait_for_leader(group)
    async with connect(group.cluster, Scale) as scale:
        for _ in range(CALLS):
            await scale.add(1)
    await wait_for_level(group)
    for server in group.servers.values():
        assert server.stop() == 0
        assert LEAVES in logged(server)
        assert WITHOUT not in logged(server)
    for server in group.servers.values():
        server.start({"SCALE_FACTOR": "100"})
    for server in group.servers.values():
        server.wait_ready()
    await wait_for_leader(group)
    async with connect(group.cluster, Scale) as scale:
        assert await scale.read() == CALLS
        await scale.add(1)
        assert await scale.read() == CALLS + 100
    await wait_for_level(group)
    for _ in range(10):  # whichever replica answers
        async with connect(group.cluster, Scale, reads="stale") as scale:
            assert await scale.read() == CALLS + 100


async def endless_group(make_group: MakeGroup, settings: str) -> tuple[ServerGroup, ServerProcess]:
    """Return a cluster of one whose state no snapshot can hold."""
    group = make_group(1, arguments=["tests.process.scale:Endless"], settings=SETTINGS + settings)
    await wait_for_leader(group)
    async with connect(group.cluster, Endless) as endless:
        await endless.add(1)
    return group, next(iter(group.servers.values()))


async def test_second_signal_stops_a_server_that_would_leave_a_snapshot(make_group: MakeGroup) -> None:
    _, server = await endless_group(make_group, "stop_snapshot_timeout_ms = 600000\n")
    server.signal(signal.SIGTERM)
    await wait_until(lambda: LEAVES in logged(server), 20.0, "it begins to stop")
    assert server.running
    assert server.stop() == 0


async def test_snapshot_of_a_stop_is_given_up_when_it_takes_too_long(make_group: MakeGroup) -> None:
    group, server = await endless_group(make_group, "stop_snapshot_timeout_ms = 200\n")
    assert server.stop() == 0
    assert f"node 1 {WITHOUT}: it took longer than stop_snapshot_timeout_ms, 200 ms" in logged(server)
    group.start()
    await wait_for_leader(group)
