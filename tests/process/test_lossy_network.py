"""The kernel's TCP on a network that is cut: a link that is dead is opened again, one to a busy peer is not.

With virtual time, seven servers and many seeds: tests/sim/suites/test_lossy_networks.py. For figures:
`python -m benchmarks.lossy`. Collected where network namespaces can be made (conftest.py).
"""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.lossy_network import LossyGroup

pytestmark = pytest.mark.process

PROTOCOLS = ("raft", "viewstamped", "primary_backup")
CUT_S = 3.2
"""TCP sends again 0.2, 0.6, 1.4, 3.0 and 6.2 s after a loss: after this cut it waits for 3 s more."""
SERVES_WITHIN_S = 2.0
"""An election, and dials; a machine that has much to do needs longer than the second that is promised."""


@pytest.fixture(params=PROTOCOLS)
def group(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LossyGroup]:
    with LossyGroup(tmp_path, 3, protocol=request.param, loss=0.0) as made:
        made.start()
        yield made


def write(group: LossyGroup, key: str) -> float:
    """Write, as a client that reaches all servers; return how long it took."""

    async def story() -> float:
        async with connect(group.cluster, KeyValueStore, timeout_s=60) as store:
            began = monotonic()
            await store.set(key, b"value")
            return monotonic() - began

    return group.as_client(lambda: asyncio.run(story()))


def test_a_cluster_serves_soon_when_all_links_were_cut_for_seconds(group: LossyGroup) -> None:
    write(group, "before")
    group.network.split([[node] for node in group.servers])
    group.network.stay(CUT_S)
    group.network.heal()
    assert write(group, "after") <= SERVES_WITHIN_S


def test_no_link_is_given_up_when_its_peer_is_stopped_for_seconds(tmp_path: Path) -> None:
    with LossyGroup(tmp_path, 3, protocol="raft", loss=0.0) as group:
        group.start()
        write(group, "before")
        stopped = NodeId(3)
        group.servers[stopped].signal(signal.SIGSTOP)
        try:
            for number in range(10):
                write(group, f"meanwhile {number}")
                group.network.stay(0.2)
        finally:
            group.servers[stopped].signal(signal.SIGCONT)
        write(group, "after")
        logs = [group.servers[NodeId(node)].log.read_text(encoding="utf-8") for node in (1, 2)]
        assert not any("no longer answers" in log for log in logs)
