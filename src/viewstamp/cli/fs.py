"""`viewstamp fs`: make, mount, check and measure the file system of a cluster."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED, complain
from viewstamp.cli.output import show_json
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, client_token, locate
from viewstamp.core.errors import ConfigurationError, OutcomeUnknown
from viewstamp.filesystem.checking import check
from viewstamp.filesystem.driver import FileDriver
from viewstamp.filesystem.mount import Mount
from viewstamp.replica.options import SessionLimits
from viewstamp.runtime.client import AsyncClient
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.proxies import make_proxy
from viewstamp.runtime.system import loop_factory, wall_ns
from viewstamp.services.extents import FileService
from viewstamp.services.extents.model import Birth, NameTaken, NoInode
from viewstamp.services.extents.operations import FileFailure, FileOptions

ClusterFile = Annotated[Path, Parameter(help="Cluster file.")]
Servers = Annotated[str | None, Parameter(help="HOST:PORT,... of members, instead of a file.")]
Timeout = Annotated[float, Parameter(help="Seconds to wait for an answer.")]
AsJson = Annotated[bool, Parameter(help="Print JSON.", negative="")]

_NAMED_MAX: Final = 20
_NO_FILE_SYSTEM: Final = "the cluster has no file system: make one with `viewstamp fs mkfs`"


def mkfs(
    *,
    mode: Annotated[str, Parameter(help="Permissions of the root directory, in octal.")] = "755",
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Make an empty file system in a cluster that serves viewstamp.services.extents:FileService.

    Exit code 1: there is one already; nothing was changed.
    """
    birth = Birth("directory", _mode(mode), os.getuid(), os.getgid(), wall_ns())

    async def make(service: type[FileService]) -> int:
        try:
            await service.make(birth)
        except NameTaken as taken:
            complain(str(taken))
            return REFUSED
        print("made an empty file system")
        return DONE

    return _ask(make, cluster, servers, timeout)


def mount(
    mountpoint: Annotated[Path, Parameter(help="A directory.")],
    /,
    *,
    read_only: Annotated[bool, Parameter(help="Refuse changes.", negative="")] = False,
    session: Annotated[
        float | None,
        Parameter(help="Seconds after which the locks of a mount that is gone are free; else the cluster's."),
    ] = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Mount the file system of a cluster, until Ctrl-C, SIGTERM or umount.

    What was written is flushed before it ends.
    """
    where = locate(cluster, servers)
    if session is not None and not 0 < session <= SessionLimits().time_to_live_max_ms / 1_000:
        raise ConfigurationError(f"--session {session:g}: give seconds, more than 0")
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)

    async def run() -> None:
        options = FileOptions(label=f"mount of {mountpoint}"[:200])
        driver = FileDriver(
            where, options=options, session_s=session, timeout_s=check_timeout(timeout), token=client_token()
        )
        await driver.start()
        await serve(Mount(driver, mountpoint, name="viewstamp", read_only=read_only), mountpoint)

    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(run())
    return DONE


async def serve(mounted: Mount, mountpoint: Path) -> None:
    """Serve a mount until somebody unmounts it or this process is told to end.

    Raises:
        ConfigurationError: it was not mounted.
        OutcomeUnknown: it was unmounted, and something that was written may be lost.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    try:
        await mounted.start()
    except FileFailure as failure:
        await mounted.close()
        raise ConfigurationError(f"{mountpoint} was not mounted: {explained(failure)}") from None
    except BaseException:
        await mounted.close()
        raise
    print(f"mounted on {mountpoint}; Ctrl-C unmounts", flush=True)
    waiting = asyncio.ensure_future(mounted.wait())
    told = asyncio.ensure_future(ended.wait())
    await asyncio.wait([waiting, told], return_when=asyncio.FIRST_COMPLETED)
    for task in (waiting, told):
        task.cancel()
    unflushed = await mounted.close()
    if unflushed:
        named = ", ".join(map(str, unflushed[:_NAMED_MAX])) + (", ..." if unflushed[_NAMED_MAX:] else "")
        raise OutcomeUnknown(
            f"{mountpoint} was unmounted, and no server took what was written last into inodes {named}: it "
            "is lost, unless a server had it and did not say so"
        )


def explained(failure: FileFailure) -> str:
    """Return why a cluster cannot be mounted."""
    missing = "there is no file system" in str(failure)
    return _NO_FILE_SYSTEM if missing else str(failure)


def fsck(
    *,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Walk the tree and compare names, links and totals; exit code 1 where something does not fit.

    It changes nothing. While mounts are in use, what changes meanwhile may be reported.
    """

    async def look(service: type[FileService]) -> int:
        report = await check(service)
        if json:
            show_json(
                {name: getattr(report, name) for name in report.__struct_fields__},
            )
        else:
            for problem in report.problems:
                print(problem)
            print(
                f"{report.directories} directories, {report.files} files, {report.names} names, "
                f"{report.orphans} orphans: {report.found or 'no'} problems"
            )
        return REFUSED if report.found else DONE

    return _ask(look, cluster, servers, timeout)


def stat(
    *,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Show how full the file system is."""

    async def look(service: type[FileService]) -> int:
        totals = await service.totals()
        if not totals.inodes:
            raise ConfigurationError(_NO_FILE_SYSTEM)
        if json:
            show_json({name: getattr(totals, name) for name in totals.__struct_fields__})
        else:
            print(f"inodes   {totals.inodes} of {totals.inodes_max}")
            print(f"bytes    {totals.bytes} of {totals.bytes_max}")
            print(f"orphans  {totals.orphans} (open without a name)")
            print(f"pins     {totals.pins} (open while another has the lock)")
        return DONE

    return _ask(look, cluster, servers, timeout)


def _ask(
    question: Callable[[type[FileService]], Awaitable[int]],
    cluster: Path,
    servers: str | None,
    timeout: float,
) -> int:
    where = locate(cluster, servers)

    async def run() -> int:
        async with _service(where, check_timeout(timeout)) as service:
            try:
                return await question(service)
            except NoInode as missing:
                raise ConfigurationError(_NO_FILE_SYSTEM) from missing

    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        return runner.run(run())


@asynccontextmanager
async def _service(where: Where, timeout_s: float) -> AsyncIterator[type[FileService]]:
    client = AsyncClient(where, timeout_s=timeout_s, token=client_token())
    await client.start()
    try:
        yield make_proxy(FileService, client)
    finally:
        await client.close()


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise ConfigurationError(f"--mode {text[:20]!r}: give permissions in octal, such as 755")
    return mode
