"""A cluster whose nodes speak HTTP, and a client that says what it was told."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette

from viewstamp.runtime.server import Server
from viewstamp.web.admin import bearer
from viewstamp.web.app import make_app

SECRET = "a-secret-of-the-operators"
PROOF = {"authorization": f"Bearer {SECRET}"}


def app_of(server: Server) -> Starlette:
    return make_app(server, proof=bearer(SECRET))


class Answer:
    def __init__(self, code: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.code = code
        self.text = body.decode()
        self.headers = headers

    @property
    def json(self) -> Any:
        return json.loads(self.text)


async def ask(
    app: Any, target: str, *, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Answer:
    """Call an ASGI app as a server would, without a socket."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent: list[dict[str, Any]] = []
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    pieces = [message.get("body", b"") for message in sent if message["type"] == "http.response.body"]
    headers_out = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], b"".join(pieces), headers_out)
