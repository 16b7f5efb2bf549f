"""An app of FastAPI over three replicas, with a client, a lock and readiness. It asks itself."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI

import viewstamp
from viewstamp.adapters.fastapi import Viewstamp
from viewstamp.clients.coordination import Keys
from viewstamp.clients.held_claim import HeldClaim
from viewstamp.services.stock import StockService


def make_app(vs: Viewstamp) -> FastAPI:
    app = FastAPI(lifespan=vs.lifespan)
    vs.install(app)

    @app.put("/stock/{item}")
    async def put(
        item: str,
        kv: Annotated[Keys, Depends(vs.kv)],
        held: Annotated[HeldClaim, Depends(vs.locked("stock/{item}"), scope="function")],
    ) -> dict[str, int]:
        return {"revision": await kv.put(f"stock/{item}", b"1"), "token": held.token}

    return app


async def ask(app: FastAPI, method: str, path: str) -> str:
    """Ask the app as a server does."""
    sent = []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return f"{sent[0]['status']} {sent[1]['body'].decode()}"


async def play() -> None:
    async with viewstamp.local_cluster(StockService) as cluster:
        await cluster.leader()
        vs = Viewstamp(cluster.config)
        app = make_app(vs)
        async with vs.lifespan(app):
            print("ready:", await ask(app, "GET", "/readyz"))
            await cluster.kill(await cluster.leader())
            print("put:", await ask(app, "PUT", "/stock/tea"))
        print("ended:", (await ask(app, "PUT", "/stock/tea"))[:3])


def main() -> None:
    asyncio.run(play())


if __name__ == "__main__":
    main()
