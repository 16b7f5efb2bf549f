"""An app of FastAPI over a real cluster, asked by ASGI."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import Depends, FastAPI

import viewstamp
from viewstamp.adapters.fastapi import Viewstamp, status_of
from viewstamp.clients.coordination import Conflict, Coordination, Keys
from viewstamp.clients.held_claim import ClaimLost, HeldClaim
from viewstamp.clients.recipes import Recipes
from viewstamp.core.errors import (
    CommandFailed,
    InvalidCall,
    NotExecuted,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    ViewstampError,
)
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.local import LocalCluster, local_cluster
from viewstamp.services.stock import StockService


class Counter(viewstamp.StateMachine):
    value: int = 0

    @viewstamp.command
    def add(self, amount: int) -> int:
        if amount < 0:
            raise ValueError("below zero")
        self.value += amount
        return self.value

    @viewstamp.query
    def read(self) -> int:
        return self.value


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster[StateMachine]]:
    async with local_cluster(StockService) as running:
        await running.leader()
        yield running


async def ask(app: FastAPI, method: str, path: str) -> tuple[int, Any, dict[str, str]]:
    """Return status, body and headers of an answer."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "server": ("app", 80),
        "client": ("caller", 1),
        "root_path": "",
    }
    never = asyncio.Event()
    begun: list[bool] = []

    async def receive() -> Any:
        if begun:
            await never.wait()
        begun.append(True)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(each.get("body", b"") for each in sent)
    headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    return sent[0]["status"], msgspec.json.decode(body), headers


async def test_stores_recipes_and_locks_are_dependencies(cluster: LocalCluster[StateMachine]) -> None:
    vs: Viewstamp[Any] = Viewstamp(cluster.config, timeout_s=30)
    app = FastAPI(lifespan=vs.lifespan)
    vs.install(app)

    @app.put("/items/{name}")
    async def put(name: str, kv: Annotated[Keys, Depends(vs.kv)]) -> bool:
        return await kv.put(name, b"x") > 0

    @app.put("/count")
    async def count(
        recipes: Annotated[Recipes, Depends(vs.recipes)], store: Annotated[Coordination, Depends(vs.store)]
    ) -> int:
        assert store.kv is not None
        return (await recipes.counter("c").add()).value

    @app.put("/locked/{shop}")
    async def locked(
        shop: str, held: Annotated[HeldClaim, Depends(vs.locked("shop/{shop}"), scope="function")]
    ) -> str:
        del shop
        return held.name

    @app.put("/twice")
    async def twice(kv: Annotated[Keys, Depends(vs.kv)]) -> None:
        async with kv.transaction() as transaction:
            await transaction.get("k")
            transaction.put("k", b"1")
            await kv.put("k", b"2")

    assert (await ask(app, "GET", "/readyz"))[0] == 503, "it has not started"
    async with vs.lifespan(app):
        assert (await ask(app, "GET", "/readyz"))[:2] == (200, {"ready": True})
        assert (await ask(app, "PUT", "/items/a"))[:2] == (200, True)
        assert (await ask(app, "PUT", "/count"))[:2] == (200, 1)
        assert (await ask(app, "PUT", "/locked/7"))[:2] == (200, "shop/7")
        assert (await ask(app, "PUT", "/locked/7"))[0] == 200, "the first request has given it back"
        status, body, _ = await ask(app, "PUT", "/twice")
        assert (status, body["error"], body["executed"]) == (409, "Conflict", False)
        status, body, _ = await ask(app, "PUT", "/items/" + "x" * 5_000)
        assert (status, body["error"], body["executed"]) == (409, "InvalidKey", True)
    status, body, headers = await ask(app, "PUT", "/items/a")
    assert (status, body["executed"], body["retry"]) == (503, False, True)
    assert headers["retry-after"] == "1"


async def test_a_handler_is_cancelled_when_its_lock_is_lost(cluster: LocalCluster[StateMachine]) -> None:
    vs: Viewstamp[Any] = Viewstamp(cluster.config, timeout_s=30)
    app = FastAPI(lifespan=vs.lifespan)
    vs.install(app)
    began, finished = asyncio.Event(), []

    @app.put("/work")
    async def work(held: Annotated[HeldClaim, Depends(vs.locked("work"), scope="function")]) -> None:
        began.set()
        await asyncio.Event().wait()
        finished.append(held)

    async with vs.lifespan(app):
        asking = asyncio.create_task(ask(app, "PUT", "/work"))
        async with asyncio.timeout(30):
            await began.wait()
            assert vs._recipes is not None
            await vs._recipes.close()  # as if its session had ended
            status, body, _ = await asking
    assert (status, body["error"]) == (504, "ClaimLost")
    assert not finished


async def test_a_machine_of_ones_own_is_a_dependency() -> None:
    async with local_cluster(Counter) as cluster:
        await cluster.leader()
        vs = Viewstamp(cluster.config, Counter, check=lambda counter: counter.read(), timeout_s=30)
        app = FastAPI(lifespan=vs.lifespan)
        vs.install(app, readiness="/health/ready")

        @app.post("/add/{amount}")
        async def add(amount: int, counter: Annotated[Any, Depends(vs.client)]) -> int:
            value: int = await counter.add(amount)
            return value

        async with vs.lifespan(app):
            assert (await ask(app, "POST", "/add/3"))[:2] == (200, 3)
            assert (await ask(app, "GET", "/health/ready"))[0] == 200
            status, body, _ = await ask(app, "POST", "/add/-1")
            assert (status, body["executed"], body["retry"]) == (409, True, False)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotExecuted("x"), 503),
        (Overloaded("x"), 503),
        (OutcomeUnknown("x"), 504),
        (Conflict("x"), 409),
        (CommandFailed("ValueError", "x"), 409),
        (PermissionDenied("x"), 403),
        (InvalidCall("x"), 500),
        (ClaimLost("lock", "x", 1, "lost"), 504),
        (ViewstampError("x"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_status_says_what_the_error_says(error: ViewstampError, status: int) -> None:
    assert status_of(error) == status
