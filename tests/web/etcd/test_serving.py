"""The gateway's own port: what protects it, and TLS with the node's certificate."""

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from tests.web.etcd.test_callers import KEY, SHOP, granting, token
from viewstamp.cli.authority import Authority, write_pair
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig, TlsFiles
from viewstamp.runtime.tokens import public_text
from viewstamp.web.certified import HttpCertificates
from viewstamp.web.etcd.serving import gateway_beside, gateway_of
from viewstamp.web.serving import listen

PLAIN = ClusterConfig(cluster_id="granted", members=(Member(1, "127.0.0.1", 1),))
SECURE = ClusterConfig(cluster_id="granted", members=(Member(1, "127.0.0.1", 1),), tls=TlsFiles("ca.pem"))


def test_a_port_that_others_reach_needs_protection() -> None:
    with pytest.raises(
        ConfigurationError, match="can be reached from other machines, and nothing protects it"
    ):
        gateway_beside(f"0.0.0.0:{free_ports(1)[0]}", PLAIN, NodeId(1), NodeConfig())
    with pytest.raises(ConfigurationError, match=r"needs \[tls\] in the cluster file"):
        gateway_beside("https:127.0.0.1:1", PLAIN, NodeId(1), NodeConfig())
    with pytest.raises(ConfigurationError, match="--etcd cannot listen on"):
        gateway_beside("192.0.2.1:1", PLAIN, NodeId(1), NodeConfig(insecure=True))


def test_a_cluster_with_tls_needs_tokens_for_the_gateway() -> None:
    with pytest.raises(ConfigurationError, match="--etcd needs tokens in a cluster with TLS"):
        gateway_beside(f"127.0.0.1:{free_ports(1)[0]}", SECURE, NodeId(1), NodeConfig())


async def asked(
    port: int, tls: ssl.SSLContext, path: str, authorization: str
) -> tuple[int, dict[str, object]]:
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        body = b'{"key": "c2hvcC9h"}'
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: {authorization}\r\n\r\n".encode()
            + body
        )
        answer = await reader.read()
        writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest)


async def test_it_shows_the_nodes_certificate_and_asks_for_none(tmp_path: Path) -> None:
    authority = Authority.new("granted")
    authority.save(tmp_path)
    pair = authority.issue("granted", "node/1", is_server=True, hosts=["127.0.0.1"])
    write_pair(tmp_path / "node-1", pair)
    async with granting(SHOP, keys=(public_text(KEY),), tls=TlsFiles(str(tmp_path / "ca.pem"))) as door:
        listener = listen(f"127.0.0.1:{free_ports(1)[0]}")
        host, port = listener.getsockname()
        certificates = HttpCertificates(door._server.cluster.tls, door._server.cluster, NodeId(1))
        async with gateway_of(door._server, listener, (host, port), certificates):
            trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            status, said = await asked(port, trusting, "/v3/kv/put", token("shop"))
            assert (status, "header" in said) == (200, True)
            status, said = await asked(port, trusting, "/v3/kv/put", "")
            assert (status, said["error"]) == (400, "etcdserver: user name is empty")
            status, said = await asked(port, trusting, "/v3/cluster/member/list", "")
            assert said["members"][0]["clientURLs"] == [f"https://127.0.0.1:{port}"]  # type: ignore[index]


async def test_a_gateway_runs_beside_a_node_and_is_found_by_its_clients() -> None:
    async with granting(keys=()) as door:
        (port,) = free_ports(1)
        beside = gateway_beside(f"127.0.0.1:{port}", door._server.cluster, NodeId(1), door._server.config)
        async with beside(door._server):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(30):
                assert b'"etcdserver":"3.4.0"' in await reader.read()
            writer.close()
