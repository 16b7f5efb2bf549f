"""`/v1/watch`: events with ids, closed without the secret, resumed by `Last-Event-ID`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

import viewstamp
from tests.runtime.certified import certified
from tests.runtime.fakes import until
from viewstamp.core.ids import NodeId
from viewstamp.replica.authorization import Grant
from viewstamp.runtime.local import local_cluster
from viewstamp.services.stock import StockService
from viewstamp.services.store.types import Event, KeyValue
from viewstamp.services.store.watching import Changes, Progress, Resync
from viewstamp.web import watch
from viewstamp.web.admin import bearer
from viewstamp.web.app import make_app

SECRET = "a secret of operators"


class Reader:
    """A reader of one stream, as ASGI has it."""

    def __init__(
        self, app: Starlette, query: str, headers: dict[str, str] | None = None, *, method: str = "GET"
    ) -> None:
        sent = {"authorization": f"Bearer {SECRET}"} if headers is None else headers
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": "/v1/watch",
            "raw_path": b"/v1/watch",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._task = asyncio.create_task(app(self.scope, self.receive, self._messages.put))  # type: ignore[arg-type]

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def status(self) -> int:
        async with asyncio.timeout(30):
            message = await self._messages.get()
        assert message["type"] == "http.response.start"
        status: int = message["status"]
        return status

    async def done(self) -> None:
        """Wait until the app has answered."""
        await self._task

    async def event(self) -> dict[str, str]:
        """Return the next event that is not a comment or progress: its fields."""
        async with asyncio.timeout(30):
            while True:
                text = (await self._messages.get()).get("body", b"").decode()
                fields = dict(line.split(": ", 1) for line in text.splitlines() if line and line[0] != ":")
                if fields and fields["event"] != "progress":
                    return fields

    async def close(self) -> None:
        self._gone.set()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await until(lambda: not watch.CLOSING)


@pytest.fixture
async def app() -> AsyncIterator[tuple[Starlette, Any]]:
    async with local_cluster(StockService, replicas=1) as cluster:
        await cluster.leader()
        (server,) = cluster.servers.values()
        yield make_app(server, proof=bearer(SECRET)), cluster


async def test_events_come_with_their_revisions_and_go_on_from_the_last_one(
    app: tuple[Starlette, Any],
) -> None:
    make, cluster = app
    async with viewstamp.coordination(cluster.config) as c:
        first = await c.kv.put("w/a", b"1")
        second = await c.kv.put("w/a", b"2")
        await c.kv.put("other", b"")
        reader = Reader(make, "prefix=w/&after=0")
        assert await reader.status() == 200
        one, two = await reader.event(), await reader.event()
        assert (one["id"], one["event"], two["id"]) == (str(first), "changes", str(second))
        assert '"value":"1"' in one["data"]
        await reader.close()
        third = await c.kv.put("w/b", b"3")
        again = Reader(
            make, "prefix=w/&after=0", {"authorization": f"Bearer {SECRET}", "last-event-id": two["id"]}
        )
        assert await again.status() == 200
        assert (await again.event())["id"] == str(third)
        await again.close()


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {}, 403),
        ("", {"authorization": "Bearer wrong"}, 403),
        ("after=x", None, 400),
        ("after=-1", None, 400),
        ("after=99999999999999999999", None, 400),
        ("prefix=" + "k" * 5_000, None, 400),
        ("prefix=%ff%fe", None, 400),
        ("prefix=a&prefix=b", None, 400),
        ("revision=5", None, 400),
        ("after=1&" * 1_000, None, 400),
        ("prefix=%EF%BF%BD", None, 200),
    ],
)
async def test_what_may_not_be_a_stream_is_refused(
    app: tuple[Starlette, Any], query: str, headers: dict[str, str] | None, status: int
) -> None:
    reader = Reader(app[0], query, headers)
    assert await reader.status() == status
    await reader.close()


async def test_streams_are_bounded_and_given_back(
    app: tuple[Starlette, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STREAMS_MAX", 1)
    first = Reader(app[0], "")
    assert await first.status() == 200
    second = Reader(app[0], "")
    assert await second.status() == 503
    await first.close()
    await second.close()
    third = Reader(app[0], "")
    assert await third.status() == 200
    await third.close()
    (server,) = app[1].servers.values()
    await until(lambda: not server.budgets()["watches"][0])
    await until(lambda: not server.budgets()["clients known"][0])


async def test_a_reader_that_never_reads_has_no_place(
    app: tuple[Starlette, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STREAMS_MAX", 1)
    asked = Reader(app[0], "", method="HEAD")
    assert await asked.status() == 200
    await asyncio.wait_for(asked.done(), 30)  # and does not wait for events

    async def gone(message: Any) -> None:
        raise OSError("the reader is gone")

    with pytest.raises(Exception):  # noqa: B017, PT011  what it becomes is the framework's
        await app[0]({**asked.scope, "method": "GET"}, asked.receive, gone)  # before the stream has begun
    reader = Reader(app[0], "")
    assert await reader.status() == 200
    await reader.close()


async def test_without_a_secret_there_is_no_stream(app: tuple[Starlette, Any]) -> None:
    (server,) = app[1].servers.values()
    reader = Reader(make_app(server), "")
    assert await reader.status() == 403
    await reader.close()


def test_a_part_of_a_revision_has_no_id() -> None:
    event = Event(b"k\xff", KeyValue(b"k\xff", b"v", 1, 1, 1))
    assert watch.event_of(Changes(5, [event], more=True)).startswith(b"event: changes\ndata: {")
    assert watch.event_of(Changes(5, [event])).startswith(b"id: 5\nevent: changes\n")
    assert (
        watch.event_of(Progress(7)) == b'id: 7\nevent: progress\ndata: {"type":"progress","revision":7}\n\n'
    )
    assert watch.event_of(Resync(8, [])).startswith(b"id: 8\nevent: resync\n")


async def test_a_node_with_a_certificate_asks_by_its_own_name(tmp_path: Path) -> None:
    """Grants are asked for `node/1`: without one of its own it is told nothing."""
    grants = (
        Grant(principal="client/*", methods=("*",)),
        Grant(principal="node/1", methods=("kv_changes", "kv_revision"), prefixes=("w/",)),
    )
    async with certified(tmp_path, machine=StockService, grants=grants) as made:
        async with viewstamp.coordination(made.cluster) as c:
            first = await c.kv.put("w/a", b"1")
            await c.kv.put("x/a", b"1")
        reader = Reader(make_app(made.servers[NodeId(1)], proof=bearer(SECRET)), "prefix=w/&after=0")
        assert (await reader.status(), (await reader.event())["id"]) == (200, str(first))
        await reader.close()
        for node, prefix in ((1, ""), (1, "x/"), (2, "w/")):
            app = make_app(made.servers[NodeId(node)], proof=bearer(SECRET))
            beyond = Reader(app, f"prefix={prefix}&after=0")
            assert await beyond.status() == 200
            event = await beyond.event()
            assert event["event"] == "error"
            assert f"node/{node} may not" in event["data"]
            await beyond.close()
