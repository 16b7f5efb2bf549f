"""Verbs of operators: what proves that a caller is one, and what each answers."""

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route

from tests.runtime.fakes import until
from tests.runtime.machines import Counter
from tests.web.asgi import PROOF, SECRET, app_of, ask
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.local import local_cluster
from viewstamp.runtime.server import Server
from viewstamp.web.admin import read_secret
from viewstamp.web.app import make_app


async def test_status_tells_what_the_node_knows() -> None:
    async with local_cluster(Counter, replicas=1) as cluster:
        async with cluster.connect() as counter:
            await counter.add(1)
        server = cluster.servers[await cluster.leader()]
        said = (await ask(app_of(server), "/status")).json
    assert said["cluster_id"] == "local"
    assert said["role"] == "leader"
    assert said["last"]["seqno"] == said["applied"] >= 1
    assert said["budgets"]["commands waiting"][1] == 65_536
    assert said["draining"] is False
    assert said["counters"]["syncs"] >= 1


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {SECRET}"}, {"authorization": ""}],
)
async def test_no_verb_is_taken_from_a_caller_without_proof(headers: dict[str, str]) -> None:
    async with local_cluster(Counter) as cluster:
        leader = await cluster.leader()
        app = app_of(cluster.servers[leader])
        for verb in ("transfer", "snapshot"):
            answer = await ask(app, f"/admin/{verb}", method="POST", headers=headers)
            assert (answer.code, answer.json["done"]) == (403, False)
            assert SECRET not in answer.text
        refused = await ask(app, "/admin/members", method="POST", headers=headers, body=b'{"remove": [1]}')
        assert refused.code == 403
        assert (await ask(app, "/admin/transfer", headers=PROOF)).code == 405, "nothing is done by a GET"
        nobody = make_app(cluster.servers[leader])
        assert (await ask(nobody, "/admin/snapshot", method="POST", headers=PROOF)).code == 403
        assert await cluster.leader() == leader


async def test_an_operator_transfers_leadership_and_takes_a_snapshot() -> None:
    async with local_cluster(Counter) as cluster:
        async with cluster.connect() as counter:
            await counter.add(1)
        leader = await cluster.leader()
        app = app_of(cluster.servers[leader])
        taken = await ask(app, "/admin/snapshot", method="POST", headers=PROOF)
        assert (taken.code, taken.json) == (200, {"done": True, "refusal": ""})
        assert cluster.servers[leader].status().snapshot >= 1
        heir = min(set(cluster.servers) - {leader})
        body = b'{"to": %d}' % heir
        moved = await ask(app, "/admin/transfer", method="POST", headers=PROOF, body=body)
        assert moved.json["done"], moved.text
        await until(lambda: cluster.servers[heir].status().leader == heir)
        again = await ask(app, "/admin/transfer", method="POST", headers=PROOF)
        assert (again.code, again.json["done"]) == (409, False)
        assert "does not lead" in again.json["refusal"]


@pytest.mark.parametrize("body", [b"[", b'{"to": "x"}', b'{"two": 1}', b"\xff", b" " * 5_000, b"[" * 4_000])
async def test_a_body_that_cannot_be_used_changes_nothing(body: bytes) -> None:
    async with local_cluster(Counter, replicas=1) as cluster:
        app = app_of(cluster.servers[await cluster.leader()])
        answer = await ask(app, "/admin/transfer", method="POST", headers=PROOF, body=body)
        assert answer.code == 400
        assert "the body cannot be used" in answer.json["refusal"]


async def test_a_bug_in_a_handler_costs_its_caller_one_answer() -> None:
    async def broken(request: Request) -> PlainTextResponse:
        raise RuntimeError("a bug")

    def router(server: Server) -> list[BaseRoute]:
        return [Route("/v3/broken", broken)]

    async with local_cluster(Counter, replicas=1) as cluster:
        server = cluster.servers[await cluster.leader()]
        app = make_app(server, routers=[router])
        with pytest.raises(RuntimeError):  # the server logs it; the caller was answered before
            await ask(app, "/v3/broken")
        assert (await ask(app, "/livez")).code == 200


def test_a_secret_is_refused_when_others_may_read_it_or_it_is_short(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read it"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == SECRET
    for bad in ("short", "", "with space in the middle of it", "x" * 5_000):
        path.write_text(bad)
        with pytest.raises(ConfigurationError, match="one line of 16 letters"):
            read_secret(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_secret(tmp_path / "missing")


async def test_an_operator_lists_and_changes_the_members() -> None:
    async with local_cluster(Counter) as cluster:
        async with cluster.connect() as counter:
            await counter.add(1)
        leader = await cluster.leader()
        app = app_of(cluster.servers[leader])
        listed = (await ask(app, "/admin/members")).json
        assert [node for node, _ in listed["members"]["voters"]] == sorted(cluster.servers)
        gone = max(set(cluster.servers) - {leader})
        body = b'{"remove": [%d]}' % gone
        changed = await ask(app, "/admin/members", method="POST", headers=PROOF, body=body)
        assert (changed.code, changed.json["done"], changed.json["settled"]) == (200, True, True)
        assert gone not in [node for node, _ in changed.json["members"]["voters"]]
        assert [each[0] for each in changed.json["members"]["removed"]] == [gone]
        refused = await ask(app, "/admin/members", method="POST", headers=PROOF, body=b'{"promote": [9]}')
        assert (refused.code, refused.json["refusal"]) == (409, "node 9 is not a member: add it first")
        many = b'{"remove": [%s]}' % b",".join(b"%d" % node for node in range(65))
        assert (await ask(app, "/admin/members", method="POST", headers=PROOF, body=many)).code == 400
