"""Listening on the one port of a server, and what an operator is told where that cannot be done."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import Address, format_address

BACKLOG: Final = 1024
"""Connections that the kernel keeps for the next turn."""


async def listen_on(
    listen: Address | socket.socket, accept: Callable[[], asyncio.Protocol]
) -> asyncio.Server:
    """Listen on the running loop; `accept` makes the protocol of each connection.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    try:
        if isinstance(listen, socket.socket):
            return await loop.create_server(accept, sock=listen, backlog=BACKLOG)
        return await loop.create_server(accept, *listen, backlog=BACKLOG)
    except OSError as error:
        where = "its socket" if isinstance(listen, socket.socket) else format_address(listen)
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ConfigurationError(
            f"cannot listen on {where}: {why}; nothing was served: stop the process that uses it, "
            "or choose another address"
        ) from error
