"""The app on a real socket: a port, a Unix socket, and what cannot be listened on."""

import asyncio
import stat
from pathlib import Path

import pytest

from tests.runtime.machines import Counter
from tests.web.asgi import app_of
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.local import local_cluster
from viewstamp.web.serving import listen, serving

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_it_answers_on_a_port_and_on_a_socket_that_is_this_users_alone(tmp_path: Path) -> None:
    async with local_cluster(Counter, replicas=1) as cluster:
        app = app_of(cluster.servers[await cluster.leader()])
        port = listen(f"127.0.0.1:{free_ports(1)[0]}")
        async with serving(app, port):
            reader, writer = await asyncio.open_connection(*port.getsockname())
            assert await _get(reader, writer) == (b"HTTP/1.1 200 OK", b"ok\n")
        path = tmp_path / "http"
        for _ in range(2):  # the second finds what the first left
            async with serving(app, listen(f"unix:{path}")):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                reader, writer = await asyncio.open_unix_connection(path)
                assert await _get(reader, writer) == (b"HTTP/1.1 200 OK", b"ok\n")


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bytes]:
    async with asyncio.timeout(30):
        writer.write(GET)
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.splitlines()[0], body


async def test_what_cannot_be_listened_on_is_refused_in_one_line(tmp_path: Path) -> None:
    held = listen(f"127.0.0.1:{free_ports(1)[0]}")
    with held, pytest.raises(ConfigurationError, match="--http cannot listen on"):
        listen(f"127.0.0.1:{held.getsockname()[1]}")
    file = tmp_path / "kept"
    file.write_text("a file that is not a socket")
    with pytest.raises(ConfigurationError, match="Address already in use"):
        listen(f"unix:{file}")
    assert file.exists()
    with pytest.raises(ConfigurationError):
        listen("nonsense")
