"""`lock_server MASTER ME`: one replica of the lock service of labs 6 and 7, on port ME.

`lock_server ME`, as labs 1 to 5 start it, is the same with MASTER equal to ME.

With MASTER equal to ME it bootstraps the group, else it asks MASTER, which may be dead, to admit it. What
it knows is in the working directory: `paxos-<ME>.log`, the course's, and `paxos-<ME>.d`, the operation
log. The first tells that the node existed: where it was removed, the node is new, and a folder that was left
is put aside as `paxos-<ME>.d.old`. ME+1 is the port of the tests.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from viewstamp.core.errors import ConfigurationError, JournalCorrupt, ViewstampError
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import CoreSetup, ProtocolDefinition
from viewstamp.protocols.viewstamped import DEFINITION
from viewstamp.protocols.viewstamped.core import ViewstampedCore
from viewstamp.runtime.addresses import LOOPBACK
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.server import EXIT_OK, Server, exit_code
from viewstamp.services.locks import LockService
from viewstamp_labs.lab6824.arguments import EXIT_USAGE, LIFETIME_S, parse_port
from viewstamp_labs.lab6824.breakpoints import Breakpoints
from viewstamp_labs.lab6824.control_port import LINE_BYTES_MAX, ArmingPort
from viewstamp_labs.lab6824.paxos_log import PaxosLog, read_log
from viewstamp_labs.lab6824.paxos_log_tap import LoggedCore
from viewstamp_labs.lab6824.traffic import ObservedServer

LOG: Final = logging.getLogger("viewstamp_labs")
USAGE: Final = "usage: lock_server [master-port] my-port"
SEGMENT_BYTES: Final = 1 << 20
"""Of the operation log: a new one is made at once."""
TIMES: Final = {"heartbeat_ms": 300, "heartbeat_misses_max": 8, "paxos_timeout_ms": 1_000}
"""A dead process is noticed by its broken connections within a second, a silent one after 2.4 s: the tests of
the course count views, and a machine that is busy with other things must not look dead."""
_REPORT_S: Final = 0.5
"""How often it is looked whether the service waits, and for what."""


def main(arguments: list[str]) -> int:
    """Run a server until it is ended; return the exit code where it could not start, or failed."""
    if len(arguments) not in {1, 2}:
        sys.stderr.write(f"{USAGE}\n")
        return EXIT_USAGE
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.alarm(LIFETIME_S)
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        return asyncio.run(_serve(parse_port(arguments[0]), arguments[-1]))
    except ViewstampError as error:
        sys.stderr.write(f"lock_server {' '.join(arguments)}: nothing was started: {error}\n")
        return exit_code(error)


async def _serve(master: int, me: str) -> int:
    node = parse_port(me)
    # The ports come first: a second server of this name must not touch the files of the one that runs.
    own, tests = bind(node), bind(node + 1)
    folder = Path(f"paxos-{me}.d")
    log_path = Path(f"paxos-{me}.log")
    prepare_files(log_path, folder)
    server = make_server(master, node, log_path, folder, own)
    await server.start()
    port = await asyncio.start_server(ArmingPort(server.breakpoints).serve, sock=tests, limit=LINE_BYTES_MAX)
    reporter = asyncio.create_task(report(server))
    try:
        await server.wait()
    except Exception:  # noqa: BLE001  the server has said why
        _end(exit_code(server.failure))
    finally:
        reporter.cancel()
        port.close()
    return EXIT_OK


def _end(code: int) -> NoReturn:
    """End this process without more clean-up: the disk may hang."""
    logging.shutdown()
    os._exit(code)


class LockServer(ObservedServer):
    """A server whose core has breakpoints and keeps the course's log."""

    def __init__(
        self, cluster: ClusterConfig, node: NodeId, config: NodeConfig, log_path: Path, listen: socket.socket
    ) -> None:
        self.breakpoints = Breakpoints(self._pull_cables)
        self._log_path = log_path
        definition: ProtocolDefinition = msgspec.structs.replace(DEFINITION, make_core=self._make_core)
        super().__init__(cluster, node, LockService, config, listen=listen, definition=definition)

    def _make_core(self, setup: CoreSetup) -> LoggedCore:
        core = ViewstampedCore(setup, self.breakpoints)
        log = PaxosLog(self._log_path, core.views.history, core.views.acceptor)
        if log.repaired:
            LOG.warning(log.repaired)
        return LoggedCore(core, log)

    def _pull_cables(self, silenced: bool) -> None:  # noqa: FBT001  as `Breakpoints` calls it
        LOG.info("partitioned" if silenced else "healed")
        self.silence(silenced=silenced)


def make_server(master: int, node: int, log_path: Path, folder: Path, listen: socket.socket) -> LockServer:
    """Return the server of this node, not started."""
    options: dict[str, object] = {**TIMES, "bootstrap": "alone"}
    if master != node:
        options = {**TIMES, "bootstrap": "join", "contact": master}
    cluster = ClusterConfig(
        cluster_id="6.824",
        members=(Member(node, LOOPBACK, node),),
        protocol="viewstamped",
        options=options,
        open_host=LOOPBACK,
    )
    config = NodeConfig(data=str(folder), segment_bytes=SEGMENT_BYTES, loop="asyncio")
    return LockServer(cluster, NodeId(node), config, log_path, listen)


def prepare_files(log_path: Path, folder: Path) -> None:
    """Put an operation log aside that no longer belongs to a log of Paxos.

    Raises:
        JournalCorrupt: the operation log of a node that has seen views is missing.
        StorageError, ConfigurationError: the working directory cannot be used.
    """
    if log_path.exists():
        if not folder.exists() and read_log(log_path).views:
            raise JournalCorrupt(
                f"{log_path} knows views, but its operation log {folder} is missing: restore it, or take "
                f"{log_path} away to start as a new node"
            )
        return
    if folder.exists():
        old = folder.with_name(f"{folder.name}.old")
        try:
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        except OSError as error:
            raise ConfigurationError(f"cannot put {folder} aside as {old}: {error.strerror}") from error
        LOG.warning("%s is gone: this is a new node; its operation log was put aside as %s", log_path, old)


def bind(port: int) -> socket.socket:
    """Take a port of this machine.

    Raises:
        ConfigurationError: somebody else has it.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, port))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigurationError(f"cannot listen on port {port}: {reason}; end who has it") from error
    return bound


async def report(server: Server) -> None:
    """Say on standard output which view there is, and what the service waits for."""
    said = ""
    while True:
        status = server.status()
        members = " ".join(map(str, status.members))
        line = f"view {status.view} [{members}], {status.role}, primary {status.leader}"
        if status.waiting_for:
            line += f", waiting for {status.waiting_for}"
        if line != said:
            LOG.info(line)
            said = line
        await asyncio.sleep(_REPORT_S)
