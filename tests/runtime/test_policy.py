"""Grants and keys of tokens are taken in again while a node serves."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import viewstamp
from tests.runtime.fakes import until
from tests.runtime.test_granted_clients import KEY, SHOP, serving, token
from viewstamp.cli.serve import _announce
from viewstamp.cli.target import load_cluster
from viewstamp.core.errors import ConfigurationError, OutcomeUnknown, PermissionDenied
from viewstamp.core.ids import NodeId
from viewstamp.replica.authorization import Grant, policy_digest
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.connection import Connection
from viewstamp.runtime.server import Server
from viewstamp.runtime.tokens import KEY_BYTES, TokenConfig, new_key, public_text
from viewstamp.services.kv import KeyValueStore

WIDER = Grant(principal="client/shop", methods=("get", "set"), prefixes=("shop/", "other/"))
OTHERS = Grant(principal="client/other", methods=("*",))
NOW_DENIED = pytest.raises((PermissionDenied, OutcomeUnknown), match=r"no \[\[grants\]\] of the cluster file")
"""The outcome is unknown where a first attempt was on its way over the connection that was closed."""


def shop(server: Server) -> Any:
    """Return a client whose token names it `client/shop`."""
    return viewstamp.connect(server.cluster, KeyValueStore, token=token("shop"))


def says(server: Server, *grants: Grant, keys: tuple[str, ...] = (public_text(KEY),)) -> None:
    """Let the cluster file say this, and the node read it."""
    changed = msgspec.structs.replace(server.cluster, grants=grants, tokens=TokenConfig(keys=keys))
    server.reread = lambda: changed
    server.reload()


async def test_a_grant_counts_at_once_and_no_call_fails() -> None:
    async with (
        serving(SHOP) as server,
        shop(server) as store,
    ):
        await store.set("shop/a", b"1")
        with pytest.raises(PermissionDenied):
            await store.set("other/a", b"1")
        says(server, WIDER, OTHERS)
        assert await store.set("other/a", b"1") == 1
        assert await store.set("shop/a", b"2") == 2


async def test_what_was_taken_away_is_denied_on_the_connection_that_stands() -> None:
    async with serving(SHOP, OTHERS) as server:
        first = shop(server)
        other = viewstamp.connect(server.cluster, KeyValueStore, token=token("other"))
        async with first as mine, other as theirs:
            await mine.set("shop/a", b"1")
            await theirs.set("shop/b", b"1")
            kept = connections_of(server, "client/shop")
            begun = standing(server, "client/other")
            says(server, SHOP)
            await until(lambda: all(each not in standing(server) for each in begun))
            with NOW_DENIED:
                await theirs.set("shop/b", b"2")
            assert await mine.set("shop/a", b"2") == 2
            assert connections_of(server, "client/shop") == kept, "nothing has changed for this principal"


def standing(server: Server, principal: str = "") -> list[Connection]:
    """Return the connections of a principal; of all where none is named."""
    assert server._transport is not None
    return [each for each in server._transport.connections() if principal in {"", each.principal}]


def connections_of(server: Server, principal: str) -> list[int]:
    return [id(each) for each in standing(server, principal)]


async def test_a_key_that_was_taken_out_ends_its_connections_and_another_is_accepted() -> None:
    second = new_key(bytes([1]) * KEY_BYTES)
    async with (
        serving(SHOP) as server,
        shop(server) as store,
    ):
        await store.set("shop/a", b"1")
        says(server, SHOP, keys=(public_text(second), public_text(KEY)))
        assert await store.set("shop/a", b"2") == 2
        says(server, SHOP, keys=(public_text(second),))
        await until(lambda: not connections_of(server, "client/shop"))


async def test_the_first_grant_closes_a_node_that_was_open() -> None:
    async with serving(keys=()) as server, viewstamp.connect(server.cluster, KeyValueStore) as store:
        await store.set("shop/a", b"1")
        says(server, SHOP, keys=())
        with NOW_DENIED:
            await store.set("shop/a", b"2")


def _unreadable() -> ClusterConfig:
    raise ConfigurationError("cluster.toml: it is not TOML")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda server: setattr(server, "reread", _unreadable), "it is not TOML"),
        (lambda server: says(server, keys=(public_text(KEY),)), "there is no grant left"),
        (lambda server: says(server, OTHERS, keys=("k4.public.AAAA",)), "is not a public key"),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing(
    change: Callable[[Server], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(SHOP) as server,
        shop(server) as store,
    ):
        change(server)
        server.reload()
        assert f"stay as they were: {said}" in caplog.text or said in caplog.text
        assert await store.set("shop/a", b"1") == 1
        with pytest.raises(PermissionDenied):
            await store.set("other/a", b"1")


async def test_the_next_hello_tells_the_digest_of_the_new_grants() -> None:
    async with serving(SHOP) as server:
        assert server._transport is not None
        door = server._transport.doorkeeper
        assert door._me.grants == policy_digest([SHOP])
        says(server, WIDER)
        assert door._me.grants == policy_digest([WIDER])


async def test_grants_that_name_what_is_nowhere_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with serving(SHOP, Grant(principal="clients/shop", methods=("gett",))) as server:
            assert "names the principal 'clients/shop', which nobody can be" in caplog.text
            assert "names the method 'gett', which KeyValueStoreAndLockService does not have" in caplog.text
            caplog.clear()
            says(server, SHOP)
            assert "[[grants]]" not in caplog.text
            says(server, Grant(principal="client/a", methods=("sett",)))
            assert "names the method 'sett'" in caplog.text
            assert any("'sett'" in warning for warning in server.status().warnings), "doctor shows it"


def test_a_server_reads_the_file_that_it_was_started_with(tmp_path: Path) -> None:
    path = tmp_path / "viewstamp.toml"
    cluster = ClusterConfig(cluster_id="c", members=(Member(1, "127.0.0.1", 1),))
    path.write_text(cluster.to_toml())
    server = Server(load_cluster(path), NodeId(1), KeyValueStore)
    _announce(path, tmp_path, None, server)
    path.write_text(msgspec.structs.replace(cluster, grants=(SHOP,)).to_toml())
    assert server.reread is not None
    assert server.reread().grants == (SHOP,)
