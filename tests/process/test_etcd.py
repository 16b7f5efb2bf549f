"""A server as its own process that answers as etcd's gateway: a chunk for each object, and an end."""

import http.client
import json
import signal
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import format_address, free_ports
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.testkit.processes import ServerProcess

pytestmark = pytest.mark.process
WAIT_S = 60.0
KEY = b64encode(b"k").decode()


class Client:
    """A client of etcd, with one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)

    def close(self) -> None:
        self._connection.close()

    def ask(self, path: str, body: object) -> http.client.HTTPResponse:
        self._connection.request("POST", path, json.dumps(body))
        answer = self._connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer

    def post(self, path: str, body: object) -> Any:
        return json.loads(self.ask(path, body).read())


def chunk(answer: http.client.HTTPResponse) -> Any:
    """Return the next object: clients such as etcd3gw take it for granted that a chunk holds one."""
    return json.loads(answer.read1())["result"]


def test_a_watch_is_told_and_ends_with_its_server(tmp_path: Path) -> None:
    port, gateway = free_ports(2)
    member = Member(1, "127.0.0.1", port, etcd=format_address(("127.0.0.1", gateway)))
    ClusterConfig(cluster_id="alone", members=(member,)).save(tmp_path / "cluster.toml")
    server = ServerProcess(tmp_path, NodeId(1), ["--etcd", str(member.etcd)])
    server.start()
    client, watcher = Client(gateway), Client(gateway)
    try:
        server.wait_ready(WAIT_S)
        members = client.post("/v3/cluster/member/list", {})["members"]
        assert members[0]["clientURLs"] == [f"http://{member.etcd}"]
        watch = watcher.ask("/v3/watch", {"create_request": {"key": KEY}})
        assert chunk(watch)["created"] is True
        revisions = [client.post("/v3/kv/put", {"key": KEY})["header"]["revision"] for _ in range(3)]
        assert [chunk(watch)["events"][0]["kv"]["mod_revision"] for _ in revisions] == revisions
        server.signal(signal.SIGTERM)
        with pytest.raises(http.client.IncompleteRead):
            watch.read()
        assert server.wait(WAIT_S) == 0
        assert "ERROR" not in server.log.read_text()
    finally:
        for each in (server, client, watcher):
            each.close()
