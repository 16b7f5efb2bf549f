"""On whose behalf a request is made: tokens, grants, and the bound on callers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.web.etcd.door import Door, b64
from viewstamp.cli.authority import Authority, write_pair
from viewstamp.core.ids import NodeId
from viewstamp.replica.authorization import Grant
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, Member, TlsFiles
from viewstamp.runtime.server import Server
from viewstamp.runtime.system import utc_now
from viewstamp.runtime.tokens import KEY_BYTES, TokenConfig, issue, new_key, public_text
from viewstamp.services.stock import StockService
from viewstamp.web.etcd import callers
from viewstamp.web.etcd.gateway import Gateway

KEY = new_key(bytes(KEY_BYTES))
SHOP = Grant(principal="client/shop", methods=("kv_*", "lease_*"), prefixes=("shop/",))
DENIED = (403, 7, "etcdserver: permission denied")


def token(name: str, lifetime: timedelta = timedelta(hours=1)) -> str:
    return issue(KEY, name, "granted", utc_now(), lifetime)


@asynccontextmanager
async def granting(
    *grants: Grant, keys: tuple[str, ...] = (public_text(KEY),), tls: TlsFiles | None = None
) -> AsyncIterator[Gateway]:
    (port,) = free_ports(1)
    cluster = ClusterConfig(
        cluster_id="granted",
        members=(Member(1, "127.0.0.1", port),),
        grants=grants,
        tokens=TokenConfig(keys=keys),
        tls=tls,
    )
    server = Server(cluster, NodeId(1), StockService)
    await server.start()
    gateway = Gateway(server)
    try:
        yield gateway
    finally:
        await gateway.close()
        await server.stop()


def speaking(gateway: Gateway, authorization: str) -> Door:
    return Door(gateway, {"authorization": authorization})


async def test_grants_hold_for_the_principal_of_the_token() -> None:
    async with granting(SHOP) as gateway:
        for authorization in (token("shop"), f"Bearer {token('shop')}"):
            shop = speaking(gateway, authorization)
            await shop.put("shop/a", "1")
            assert await shop.refused("/kv/put", {"key": b64("other")}) == DENIED
            every = {"create_request": {"key": b64("\0"), "range_end": b64("\0")}}
            assert (await shop.answer("/v3/watch", every)).json["result"]["canceled"] is True
        nobody = speaking(gateway, token("another"))
        assert await nobody.refused("/kv/range", {"key": b64("shop/a")}) == DENIED
        anonymous = Door(gateway)
        assert await anonymous.refused("/kv/range", {"key": b64("shop/a")}) == DENIED


async def test_a_lease_is_of_the_principal_that_it_was_granted_to() -> None:
    async with granting(SHOP, Grant(principal="client/b", methods=("*",))) as gateway:
        lease = (await speaking(gateway, token("shop")).post("/lease/grant", {"TTL": 60}))["ID"]
        kept = await speaking(gateway, token("b")).post("/lease/keepalive", {"ID": lease})
        assert "TTL" not in kept["result"]


async def test_a_token_that_is_not_accepted_is_refused_and_stands_in_no_answer() -> None:
    async with granting() as gateway:
        for wrong in (
            "v4.public.nonsense",
            "Bearer nonsense",
            issue(KEY, "shop", "another", utc_now(), timedelta(1)),
        ):
            answer = await speaking(gateway, wrong).answer("/v3/kv/range", {"key": b64("a")})
            assert (answer.code, answer.json["code"]) == (401, 16)
            assert answer.json["error"] == "etcdserver: invalid auth token"
            assert wrong.split()[-1] not in answer.text


async def test_a_token_that_has_ended_is_refused_though_its_client_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with granting() as gateway:
        shop = speaking(gateway, token("shop"))
        await shop.put("a")
        later = utc_now() + timedelta(hours=2)
        monkeypatch.setattr("viewstamp.runtime.tokens.utc_now", lambda: later)
        assert (await shop.refused("/kv/range", {"key": b64("a")}))[:2] == (401, 16)


async def test_a_password_is_a_token_that_names_the_user() -> None:
    async with granting(SHOP) as gateway:
        door = Door(gateway)
        for name in ("shop", "client/shop"):
            said = await door.post("/auth/authenticate", {"name": name, "password": token("shop")})
            await speaking(gateway, said["token"]).put("shop/a")
        failed = (400, 3, "etcdserver: authentication failed, invalid user ID or password")
        for name, password in (("other", token("shop")), ("shop", "nonsense"), ("shop", "")):
            assert await door.refused("/auth/authenticate", {"name": name, "password": password}) == failed
    async with granting(keys=()) as gateway:
        not_enabled = (412, 9, "etcdserver: authentication is not enabled")
        assert (
            await Door(gateway).refused("/auth/authenticate", {"name": "a", "password": "b"}) == not_enabled
        )
        unwanted = await speaking(gateway, token("shop")).refused("/kv/range", {"key": b64("a")})
        assert unwanted[:2] == (401, 16)


async def test_where_clients_need_certificates_nobody_is_anonymous(tmp_path: Path) -> None:
    authority = Authority.new("granted")
    authority.save(tmp_path)
    write_pair(tmp_path / "node-1", authority.issue("granted", "node/1", is_server=True))
    write_pair(tmp_path / "client", authority.issue("granted", "client/rich", is_server=False))
    rich = Grant(principal="client/rich", methods=("*",))
    async with granting(SHOP, rich, tls=TlsFiles(str(tmp_path / "ca.pem"))) as gateway:
        user_empty = (400, 3, "etcdserver: user name is empty")
        assert await Door(gateway).refused("/kv/range", {"key": b64("a")}) == user_empty
        shop = speaking(gateway, token("shop"))
        await shop.put("shop/a")
        assert await shop.refused("/kv/put", {"key": b64("b")}) == DENIED, "the file client.pem spoke for it"


async def test_callers_are_bounded_and_the_idle_one_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "CALLERS_MAX", 1)
    async with granting() as gateway:
        await speaking(gateway, token("one")).put("a")
        await speaking(gateway, token("two")).put("a")
        async with gateway._callers.speaking(token("three")):
            full = await speaking(gateway, token("four")).refused("/kv/range", {"key": b64("a")})
            assert full == (429, 8, "etcdserver: too many requests")
        await speaking(gateway, token("four")).put("a")
