"""A gateway without a socket, as a client of etcd sees it."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.web.asgi import Answer, ask
from viewstamp.runtime.local import local_cluster
from viewstamp.services.stock import StockService
from viewstamp.web.etcd.gateway import Gateway


def b64(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return base64.b64encode(data).decode()


class Door:
    """One gateway, and what clients of etcd say to it."""

    def __init__(self, gateway: Gateway, headers: dict[str, str] | None = None) -> None:
        self.gateway = gateway
        self.headers = headers or {}

    async def answer(self, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return await ask(
            self.gateway.app, path, method="POST", body=data, headers={**self.headers, **headers}
        )

    async def post(self, path: str, body: Any = None) -> Any:
        """Return the answer of a request that succeeds."""
        answer = await self.answer(f"/v3{path}", body)
        assert answer.code == 200, answer.text
        return answer.json

    async def put(self, key: str, value: str = "", **more: Any) -> int:
        said = await self.post("/kv/put", {"key": b64(key), "value": b64(value), **more})
        return int(said["header"]["revision"])

    async def refused(self, path: str, body: Any = None) -> tuple[int, int, str]:
        """Return the status, the code of gRPC, and the text of an error."""
        answer = await self.answer(f"/v3{path}", body)
        assert answer.json["error"] == answer.json["message"]
        return answer.code, answer.json["code"], answer.json["error"]


class Stream:
    """A watch of a client that reads as it likes."""

    def __init__(self, door: Door, create: dict[str, Any]) -> None:
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1)
        self._gone = asyncio.Event()
        body = json.dumps({"create_request": create}).encode()
        self._body = [{"type": "http.request", "body": body, "more_body": False}]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v3/watch",
            "raw_path": b"/v3/watch",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in door.headers.items()],
        }
        self._task = asyncio.create_task(door.gateway.app(scope, self._receive, self._lines.put))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return self._body.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def next(self) -> dict[str, Any]:
        """Return the next object; a chunk holds exactly one."""
        async with asyncio.timeout(30):
            while True:
                message = await self._lines.get()
                if message["type"] == "http.response.start":
                    assert message["status"] == 200, message
                elif message["body"]:
                    found: dict[str, Any] = json.loads(message["body"])
                    return found

    async def events(self, wanted: int) -> list[tuple[str, str, int]]:
        """Return the next events as (type, key, revision)."""
        found: list[tuple[str, str, int]] = []
        while len(found) < wanted:
            for each in (await self.next())["result"].get("events", []):
                kv = each["kv"]
                key = base64.b64decode(kv["key"]).decode()
                found.append((each.get("type", "PUT"), key, int(kv["mod_revision"])))
        return found

    async def close(self) -> None:
        self._gone.set()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    async with local_cluster(StockService, replicas=1) as cluster:
        await cluster.leader()
        (server,) = cluster.servers.values()
        gateway = Gateway(server, listens_at=("127.0.0.1", 2379))
        try:
            yield Door(gateway)
        finally:
            await gateway.close()
