"""The order of writes, syncs and answers of a real server, as strace sees its calls of the system.

Left out (`conftest`) where strace is not installed or may not look at a process: the runtime under simulation
judges the same of every acknowledgement (`tests/simruntime`).
"""

from pathlib import Path

import pytest

from tests.process.conftest import MakeGroup
from tests.process.system_calls import judge, traced
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import wait_for_leader

pytestmark = pytest.mark.process

WRITES = 12
VALUE = bytes(range(1, 251)) * 2_000  # half a megabyte: two segments of 4 MiB are filled


async def test_nothing_is_answered_before_file_and_directory_are_synced(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    group = make_group(1)
    await wait_for_leader(group)
    (server,) = group.servers.values()
    trace = tmp_path / "trace"
    async with connect(group.cluster, KeyValueStore) as store:
        await store.set("key", b"first")
        with traced(server.pid, trace):
            for number in range(WRITES):
                await store.set("key", b"%d" % number + VALUE)
    seen = judge(trace.read_text(), server.data / "journal")
    assert seen.violations == []
    assert seen.answers >= WRITES
    assert seen.syncs >= WRITES
    assert seen.segments >= 1
