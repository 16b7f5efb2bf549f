"""`yfs_client MOUNTPOINT EXTENT_PORT LOCK_PORT`: the file system of labs 2 to 5 as a directory.

Files are the extent server's, locks the lock server's. Where both ports are the same, it is one service
for both.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import Final

from viewstamp.cli.fs import serve
from viewstamp.core.errors import CommandFailed, ViewstampError
from viewstamp.filesystem.driver import FileDriver
from viewstamp.filesystem.mount import Mount
from viewstamp.runtime.addresses import format_address
from viewstamp.runtime.proxies import make_proxy
from viewstamp.runtime.server import EXIT_OK, exit_code
from viewstamp.runtime.system import wall_ns
from viewstamp.services.extents import ExtentService
from viewstamp.services.extents.model import Birth, NameTaken
from viewstamp.services.extents.operations import FileOptions
from viewstamp_labs.lab6824.arguments import EXIT_USAGE, LIFETIME_S, parse_server
from viewstamp_labs.lab6824.process_name import call_this_process

USAGE: Final = "usage: yfs_client mountpoint extent-port lock-port"
FOUND_WITHIN_S: Final = 10.0


def main(arguments: list[str]) -> int:
    """Mount until it is unmounted or told to end; return the exit code."""
    if len(arguments) != 3:
        sys.stderr.write(f"{USAGE}\n")
        return EXIT_USAGE
    call_this_process("yfs_client")
    signal.alarm(LIFETIME_S)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.INFO)
    mountpoint, extents, locks = Path(arguments[0]).absolute(), *map(_where, arguments[1:])
    try:
        asyncio.run(_mount(mountpoint, extents, locks))
    except ViewstampError as error:
        sys.stderr.write(f"yfs_client {' '.join(arguments)}: {error}\n")
        return exit_code(error)
    return EXIT_OK


def _where(text: str) -> str:
    return format_address(parse_server(text))


async def _mount(mountpoint: Path, extents: str, locks: str) -> None:
    driver = FileDriver(
        extents,
        locks=None if locks == extents else locks,
        options=FileOptions(label=f"yfs_client {mountpoint}"[:200]),
        timeout_s=FOUND_WITHIN_S,
    )
    await driver.start()
    with contextlib.suppress(NameTaken, CommandFailed):  # another client was here first
        root = Birth("directory", 0o777, 0, 0, wall_ns())
        await make_proxy(ExtentService, driver.files).make(root)
    await serve(Mount(driver, mountpoint, name="yfs"), mountpoint)
