"""Clients with tokens and grants at a server: what each may do, and until when."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import viewstamp
from tests.runtime.fakes import until
from viewstamp.cli.authority import Authority, write_pair
from viewstamp.clients.locks import LockClient
from viewstamp.core.errors import NotExecuted, PermissionDenied
from viewstamp.core.ids import NodeId
from viewstamp.core.principals import ANONYMOUS
from viewstamp.replica.authorization import Grant
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, Member, TlsFiles
from viewstamp.runtime.server import Server
from viewstamp.runtime.system import utc_now
from viewstamp.runtime.tokens import KEY_BYTES, TokenConfig, issue, new_key, public_text
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.stock import StockService

KEY = new_key(bytes(KEY_BYTES))
SHOP = Grant(principal="client/shop", methods=("get", "set", "range", "locks.*"), prefixes=("shop/",))


def token(name: str, lifetime: timedelta = timedelta(hours=1)) -> str:
    return issue(KEY, name, "granted", utc_now(), lifetime)


@asynccontextmanager
async def serving(
    *grants: Grant, keys: tuple[str, ...] = (public_text(KEY),), tls: TlsFiles | None = None
) -> AsyncIterator[Server]:
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
    try:
        yield server
    finally:
        await server.stop()


async def test_a_client_may_do_what_its_grant_says_and_is_told_what_is_missing() -> None:
    async with serving(SHOP) as server:
        where = server.cluster
        async with viewstamp.connect(where, KeyValueStore, token=token("shop")) as store:
            assert await store.set("shop/a", b"1") == 1
            with pytest.raises(PermissionDenied, match="may not call set on 'other'") as caught:
                await store.set("other", b"1")
            error = caught.value
            assert (error.principal, error.method, error.missing, error.key) == (
                "client/shop",
                "set",
                "key",
                "other",
            )
            with pytest.raises(PermissionDenied):
                await store.delete("shop/a")
            with pytest.raises(PermissionDenied):
                await store.range("")
            assert len((await store.range("shop/")).items) == 1
        async with viewstamp.connect(where, KeyValueStore, reads="stale", token=token("other")) as store:
            with pytest.raises(PermissionDenied, match="client/other"):
                await store.get("shop/a")
            with pytest.raises(PermissionDenied, match="names it"):
                await store.set("shop/a", b"2")
        async with viewstamp.connect(where, KeyValueStore) as store:
            with pytest.raises(PermissionDenied, match=ANONYMOUS):
                await store.set("shop/a", b"2")
        assert server.counters()["calls_denied"] == 6


async def test_a_lock_outside_the_grant_is_refused_and_not_waited_for() -> None:
    async with serving(SHOP) as server, LockClient(server.cluster, token=token("shop")) as locks:
        async with locks.hold("shop/door"):
            pass
        with pytest.raises(PermissionDenied, match=r"locks.acquire on 'door'"):
            async with locks.hold("door"):
                pass


async def test_what_is_denied_is_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(SHOP) as server:
        async with viewstamp.connect(server.cluster, KeyValueStore, token=token("shop")) as store:
            for _ in range(100):
                with pytest.raises(PermissionDenied):
                    await store.get("other")
        assert server.counters()["calls_denied"] == 100
    told = [record for record in caplog.records if record.message.startswith("denied")]
    assert 0 < len(told) <= 25
    assert "client/shop may not call get on 'other'" in told[0].message
    assert told[0].levelno == logging.WARNING


async def test_a_connection_ends_with_its_token_and_comes_back_with_the_next_one() -> None:
    lives = [timedelta(seconds=2), timedelta(hours=1)]
    async with serving(SHOP) as server:
        shown: list[timedelta] = []

        def fresh() -> str:
            shown.append(lives[min(len(shown), 1)])
            return token("shop", shown[-1])

        async with viewstamp.connect(server.cluster, KeyValueStore, token=fresh) as store:
            await store.set("shop/a", b"1")
            await until(lambda: len(shown) > 1)
            assert await store.set("shop/a", b"2") == 2


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (lambda: token("shop", timedelta(seconds=-1)), "ended at"),
        (lambda: token("shop", timedelta(days=2)), "lives for longer"),
        (lambda: "v4.public.AAAA", "is damaged"),
        (lambda: "a password", "not a token"),
    ],
)
async def test_a_client_is_told_why_its_token_is_refused(shown: object, why: str) -> None:
    async with serving(SHOP) as server:
        connected = viewstamp.connect(server.cluster, KeyValueStore, token=shown, timeout_s=2)  # type: ignore[arg-type]
        async with connected as store:
            with pytest.raises(NotExecuted, match=why) as caught:
                await store.set("shop/a", b"1")
            assert "v4.public" not in str(caught.value).replace("begins with v4.public.", "")


async def test_a_token_is_refused_where_none_is_accepted_and_a_failing_source_shows_none() -> None:
    async with serving(keys=()) as server:
        connected = viewstamp.connect(server.cluster, KeyValueStore, token=token("shop"), timeout_s=2)
        async with connected as store:
            with pytest.raises(NotExecuted, match="accepts no tokens"):
                await store.set("shop/a", b"1")

        def fails() -> str:
            raise OSError("no such file")

        async with viewstamp.connect(server.cluster, KeyValueStore, token=fails) as store:
            assert await store.set("shop/a", b"1") == 1


def certify(folder: Path) -> TlsFiles:
    """Make what a node and the client `shop` show, where no client finds a certificate by itself."""
    authority = Authority.new("granted")
    authority.save(folder)
    write_pair(folder / "node-1", authority.issue("granted", "node/1", is_server=True))
    write_pair(folder / "shop", authority.issue("granted", "client/shop", is_server=False))
    return TlsFiles(str(folder / "ca.pem"))


async def test_with_tls_a_client_needs_a_certificate_or_a_token(tmp_path: Path) -> None:
    files = certify(tmp_path)
    shop = TlsFiles(files.ca, str(tmp_path / "shop.pem"), str(tmp_path / "shop.key"))
    async with serving(SHOP, tls=files) as server:
        where = server.cluster
        async with viewstamp.connect(where, KeyValueStore, token=token("shop")) as store:
            assert await store.set("shop/a", b"1") == 1
        async with viewstamp.connect(where, KeyValueStore, tls=shop) as store:
            assert await store.set("shop/a", b"2") == 2
        async with viewstamp.connect(where, KeyValueStore, tls=shop, token=token("other")) as store:
            assert await store.set("shop/a", b"3") == 3, "the certificate counts"
        async with viewstamp.connect(where, KeyValueStore, timeout_s=2) as store:
            with pytest.raises(NotExecuted, match="certificate is needed"):
                await store.set("shop/a", b"4")
