"""Writes (or reads) a second of three processes on loopback, for 1 to 1000 concurrent clients, syncs on.

    python benchmarks/writes.py --seconds 5 --clients 1 64 256 1000 --directory /var/tmp

Each client has one call outstanding. All clients share one process and at most 16 connections to each server.
Prints one JSON line for each number of clients.
"""

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from viewstamp.runtime.client import AsyncClient
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.local import free_ports
from viewstamp.runtime.loops import loop_factory
from viewstamp.runtime.proxies import make_proxy
from viewstamp.runtime.server import serve_forever
from viewstamp.services.kv import KeyValueStore

CONNECTIONS_MAX = 16
KEYS = 1000
VALUE = b"x" * 32


def serve(cluster: ClusterConfig, node: int, data: str, loop: str, profile: str) -> None:
    """Be one server until SIGTERM."""
    config = NodeConfig(data=data, loop=loop)  # type: ignore[arg-type]
    if not profile:
        sys.exit(serve_forever(cluster, node, KeyValueStore, config))  # type: ignore[arg-type]
    import cProfile

    profiler = cProfile.Profile()
    try:
        profiler.runcall(serve_forever, cluster, node, KeyValueStore, config)  # type: ignore[arg-type]
    finally:
        profiler.dump_stats(f"{profile}.{node}")


async def load(cluster: ClusterConfig, concurrency: int, seconds: float, *, reads: bool) -> dict[str, float]:
    """Run the clients and return what came of it."""
    clients = [AsyncClient(cluster) for _ in range(min(CONNECTIONS_MAX, concurrency))]
    for client in clients:
        await client.start()
    proxies = [make_proxy(KeyValueStore, client) for client in clients]
    await asyncio.gather(*(proxy.set("warm", VALUE) for proxy in proxies))
    await asyncio.gather(*(proxy.set(f"key{i}", VALUE) for i in range(KEYS) for proxy in proxies[:1]))
    latencies: list[float] = []
    clock = time.perf_counter
    begun = clock()
    end = begun + seconds

    async def one(number: int) -> None:
        proxy = proxies[number % len(proxies)]
        turn = 0
        while (sent := clock()) < end:
            key = f"key{(number * 7919 + turn) % KEYS}"
            await (proxy.get(key) if reads else proxy.set(key, VALUE))
            turn += 1
            latencies.append(clock() - sent)

    await asyncio.gather(*(one(number) for number in range(concurrency)))
    elapsed = clock() - begun
    for client in clients:
        await client.close()
    latencies.sort()
    return {
        "clients": concurrency,
        "per_second": round(len(latencies) / elapsed),
        "p50_us": round(latencies[len(latencies) // 2] * 1e6),
        "p99_us": round(latencies[int(len(latencies) * 0.99)] * 1e6),
    }


def main() -> None:
    """Start the servers, load them, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 64, 256, 1000])
    parser.add_argument("--directory", default=None)
    parser.add_argument("--loop", default="auto")
    parser.add_argument("--reads", action="store_true")
    parser.add_argument("--profile", default="", help="write a profile of each server to this path")
    options = parser.parse_args()
    members = tuple(Member(node, "127.0.0.1", port) for node, port in enumerate(free_ports(3)))
    cluster = ClusterConfig(cluster_id="bench", members=members)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        servers = [
            spawn.Process(
                target=serve,
                args=(cluster, node, str(Path(directory) / str(node)), options.loop, options.profile),
            )
            for node in range(3)
        ]
        for server in servers:
            server.start()
        try:
            with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
                for concurrency in options.clients:
                    figures = load(cluster, concurrency, options.seconds, reads=options.reads)
                    print(json.dumps(runner.run(figures)))
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.join(10)


if __name__ == "__main__":
    main()
