"""The listening socket of the app, and uvicorn on the loop of the node.

uvicorn would install signal handlers, configure logging and end the process where a port is taken. All three
are this project's own business, so it gets a socket that is bound already, and nothing else to decide.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import format_address, parse_address
from viewstamp.runtime.security import is_loopback
from viewstamp.runtime.system import explain
from viewstamp.web.certified import CertifiedProtocol, HttpCertificates
from viewstamp.web.deadlines import TimedProtocol

UNIX: Final = "unix:"
HTTPS: Final = "https:"
CONNECTIONS_MAX: Final = 256
_BACKLOG: Final = 64
_STOP_S: Final = 1


class _Quiet(uvicorn.Server):
    """uvicorn without signal handlers: they are the node's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(where: str, *, option: str = "--http") -> socket.socket:
    """Return a bound socket for HOST:PORT, https:HOST:PORT or unix:PATH; errors name the option.

    Raises:
        ConfigurationError: it cannot be bound.
    """
    if where.startswith(UNIX):
        return _listen_unix(where.removeprefix(UNIX), option)
    host, port = address = parse_address(where.removeprefix(HTTPS))
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        shown = format_address(address)
        raise ConfigurationError(f"{option} cannot listen on {shown}: {explain(error)}") from None


def tells_the_network(where: str) -> bool:
    """Return whether what is said there can be read on a network."""
    return not where.startswith((UNIX, HTTPS)) and not is_loopback(parse_address(where)[0])


def _listen_unix(path: str, option: str) -> socket.socket:
    """Bind a socket that this user alone may use; one that an earlier process left is replaced."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                Path(path).unlink()
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{option} cannot listen on {UNIX}{path}: {explain(error)}") from None
    finally:
        os.umask(mask)
    return listener


@asynccontextmanager
async def serving(
    app: Any,
    listener: socket.socket,
    certificates: HttpCertificates | None = None,
    *,
    connections_max: int = CONNECTIONS_MAX,
) -> AsyncIterator[None]:
    """Serve an ASGI app on this loop until the block ends, by TLS where there are certificates.

    The listener is closed then.
    """
    context = None if certificates is None else certificates.context()
    config = uvicorn.Config(
        app,
        http=TimedProtocol if context is None else CertifiedProtocol,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=connections_max,
        timeout_graceful_shutdown=_STOP_S,
        backlog=_BACKLOG,
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="viewstamp-http")
    try:
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()
