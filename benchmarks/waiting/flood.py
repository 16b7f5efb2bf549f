"""A client process with 10,000 requests under way, and a client that never reads its replies.

    python -m benchmarks.waiting.flood

Asked of both: whether the servers' memory stays bounded, and what another client notices.
"""

import asyncio
import json
import select
import socket
import sys
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.waiting.lab import MIB, Writers, cluster, fill, resident_bytes, writers
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import Identify, QueryRequest, client_number, encode_message
from viewstamp.link.framing import CLIENT, HELLO, encode_frame
from viewstamp.link.handshake import ANY_NODE, WIRE, Hello, encode_hello
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

IN_FLIGHT = 10_000
OTHERS = 16
MEASURED_S = 5.0
PAGE_KEYS = 1_000
PAGE_VALUE_BYTES = 1_000
PAGES_ASKED = 2_000
"""Two gigabytes of replies, if anybody kept them."""
SECRET = b"silent  " * 2
SILENT_S = 15
"""Longer than a client may leave its replies unread (`NodeConfig.client_stall_timeout_ms`)."""
HANGS_UP_WITHIN_S = 5.0
SAMPLE_S = 0.05


class Peak:
    """The most memory that one of these processes had since this was made."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self.bytes = 0
        self._task = asyncio.create_task(self._sample())

    async def _sample(self) -> None:
        while True:
            with suppress(FileNotFoundError):  # it has ended
                self.bytes = max(self.bytes, *(resident_bytes(pid) for pid in self._pids), 0)
            await asyncio.sleep(SAMPLE_S)

    def stop(self) -> int:
        self._task.cancel()
        return self.bytes


async def others_during(group: ServerGroup, others: Writers, doing: Awaitable[object]) -> dict[str, Any]:
    """Return what the other clients saw, and the most memory a server had, while something was done."""
    peak = Peak([server.pid for server in group.servers.values()])
    others.cut()
    await doing
    return {"others": others.cut(), "server_peak_bytes": peak.stop()}


async def ten_thousand(group: ServerGroup) -> dict[str, Any]:
    """Keep N requests of one client, in a process of its own, under way for a while."""
    command = [sys.executable, "-m", "viewstamp", "bench", "--cluster", str(group.cluster_file), "--json"]
    command += ["--clients", str(IN_FLIGHT), "--connections", "1", "--seconds", str(MEASURED_S)]
    command += ["--timeout", "60"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    peak = Peak([process.pid])
    output, _ = await process.communicate()
    figures: dict[str, Any] = json.loads(output)
    return {**figures, "client_peak_bytes": peak.stop()}


def never_read(address: Address) -> int:
    """Ask for far more than fits anywhere and read nothing for a while; return the bytes that were kept.

    Raises:
        TimeoutError: the server did not hang up.
    """
    hello = Hello(WIRE, "client", "", 0, ANY_NODE, ANY_NODE, 0)
    query = msgspec.Raw(msgspec.msgpack.encode(["range", "page", "", PAGE_KEYS]))
    kept = 0
    with socket.create_connection(address, timeout=HANGS_UP_WITHIN_S) as stream, suppress(ConnectionError):
        stream.sendall(encode_frame(HELLO, encode_hello(hello)))
        identify = Identify(client_number(SECRET), SECRET)
        stream.sendall(encode_frame(CLIENT, encode_message(identify)))
        for number in range(1, PAGES_ASKED + 1):
            ask = QueryRequest(client_number(SECRET), "stale", [(number, query)])
            stream.sendall(encode_frame(CLIENT, encode_message(ask)))
        # Its end shows only once all is read that stands in the sockets' buffers, or at once as a reset.
        ended = select.poll()
        ended.register(stream, select.POLLRDHUP)
        ended.poll(1_000 * SILENT_S)
        while piece := stream.recv(MIB):
            kept += len(piece)
    return kept


async def measure_on(group: ServerGroup) -> dict[str, Any]:
    leader: NodeId = (await wait_for_leader(group)).node
    found: dict[str, Any] = {}
    async with connect(group.cluster, KeyValueStore, timeout_s=60.0) as store:
        keys = [f"page{number}" for number in range(PAGE_KEYS)]
        await fill(store, keys, b"x" * PAGE_VALUE_BYTES)
    async with writers(group, OTHERS) as others:
        await asyncio.sleep(1.0)
        found["quiet"] = await others_during(group, others, asyncio.sleep(MEASURED_S))
        crowd = asyncio.create_task(ten_thousand(group))
        found["in_flight"] = await others_during(group, others, crowd)
        found["in_flight"]["crowd"] = crowd.result()
        silent = asyncio.create_task(asyncio.to_thread(never_read, group.cluster.addresses[leader]))
        found["never_reads"] = await others_during(group, others, silent)
        found["never_reads"]["kept_bytes"] = silent.result()
    return found


def measure(directory: Path | None = None) -> dict[str, Any]:
    """Return what other clients saw and how much memory the servers had: quiet, and under both floods."""
    with cluster(directory) as group:
        return asyncio.run(measure_on(group))


if __name__ == "__main__":
    for name, value in measure().items():
        print(name, value)
