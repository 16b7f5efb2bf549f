"""`extent_server PORT` of labs 2 to 5; `extent_server MASTER ME`: one replica of a replicated one (lab 7).

It keeps files and directories, and refuses a token that is smaller than one that it has seen: the locks
are the lock server's. With one port it starts with nothing, as the course's does; a replica keeps what it
has in `extent-<ME>.d`.
"""

import asyncio
import logging
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

from viewstamp.core.errors import ViewstampError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import LOOPBACK
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.server import EXIT_OK, exit_code
from viewstamp.services.extents import ExtentService
from viewstamp_labs.lab6824.arguments import EXIT_USAGE, LIFETIME_S, parse_port
from viewstamp_labs.lab6824.lock_server import SEGMENT_BYTES, TIMES, bind
from viewstamp_labs.lab6824.process_name import call_this_process
from viewstamp_labs.lab6824.traffic import ObservedServer

USAGE: Final = "usage: extent_server port, or extent_server master-port my-port"


def main(arguments: list[str]) -> int:
    """Run a server until it is ended; return the exit code where it could not start, or failed."""
    if len(arguments) not in {1, 2}:
        sys.stderr.write(f"{USAGE}\n")
        return EXIT_USAGE
    call_this_process("extent_server")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.alarm(LIFETIME_S)
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        return asyncio.run(
            _serve(parse_port(arguments[0]), parse_port(arguments[-1]), fresh=len(arguments) == 1)
        )
    except ViewstampError as error:
        sys.stderr.write(f"extent_server {' '.join(arguments)}: nothing was started: {error}\n")
        return exit_code(error)


async def _serve(master: int, node: int, *, fresh: bool) -> int:
    own = bind(node)  # first: a second server of this port must not touch the files of the one that runs
    folder = Path(f"extent-{node}.d")
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    options: dict[str, object] = {**TIMES, "bootstrap": "alone"}
    if master != node:
        options = {**TIMES, "bootstrap": "join", "contact": master}
    cluster = ClusterConfig(
        cluster_id="6.824-extents",
        members=(Member(node, LOOPBACK, node),),
        protocol="viewstamped",
        options=options,
        open_host=LOOPBACK,
    )
    config = NodeConfig(data=str(folder), segment_bytes=SEGMENT_BYTES, loop="asyncio")
    server = ObservedServer(cluster, NodeId(node), ExtentService, config, listen=own)
    await server.start()
    await server.wait()
    return EXIT_OK
