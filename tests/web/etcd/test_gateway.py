"""The app: paths, bounds, pages of other origins, and how errors are told."""

import logging

import pytest

from tests.web.etcd.door import Door, b64
from viewstamp.core.errors import OutcomeUnknown
from viewstamp.web.etcd import gateway, keys


@pytest.mark.parametrize("prefix", ["/v3", "/v3beta", "/v3alpha"])
async def test_the_paths_stand_under_each_prefix_that_clients_use(door: Door, prefix: str) -> None:
    assert (await door.answer(f"{prefix}/kv/put", {"key": b64("a")})).code == 200
    assert (await door.answer(f"{prefix}/maintenance/status")).code == 200


async def test_what_is_no_path_is_not_found(door: Door) -> None:
    assert (await door.answer("/v3/lock/lock")).code == 404
    assert (await door.answer("/v1/watch")).code == 404, "operators' paths stand on another port"


async def test_a_body_is_bounded_before_it_is_read(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "BODY_BYTES_MAX", 100)
    refused = await door.refused("/kv/put", {"key": b64("a"), "value": b64("x" * 100)})
    assert refused == (400, 3, "etcdserver: request is too large")
    assert "kvs" not in await door.post("/kv/range", {"key": b64("a")})


async def test_a_page_of_another_origin_is_refused(door: Door) -> None:
    there = await door.answer(
        "/v3/kv/put", {"key": b64("a")}, origin="https://evil.example", host="127.0.0.1:2379"
    )
    assert (there.code, there.json["code"]) == (403, 7)
    null = await door.answer("/v3/kv/put", {"key": b64("a")}, origin="null", host="127.0.0.1:2379")
    assert null.code == 403
    here = await door.answer(
        "/v3/kv/put", {"key": b64("a")}, origin="http://127.0.0.1:2379", host="127.0.0.1:2379"
    )
    assert here.code == 200


async def test_a_node_that_has_stopped_says_so(door: Door) -> None:
    await door.gateway._server.stop()
    assert await door.refused("/kv/range", {"key": b64("a")}) == (503, 14, "etcdserver: server stopped")


async def test_what_is_not_known_is_not_said_to_be_certain(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OutcomeUnknown("no answer came")

    monkeypatch.setattr(keys, "put_of", unknown)
    wanted = (503, 14, "etcdserver: request timed out")
    assert await door.refused("/kv/put", {"key": b64("a")}) == wanted
    answer = await door.answer("/v3/kv/put", {"key": b64("a")})
    assert (answer.json["executed"], answer.json["reason"]) == (None, "no answer came")


async def test_a_bug_costs_its_caller_the_answer_and_stands_in_the_log(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(keys, "put_of", broken)
    with caplog.at_level(logging.ERROR):
        assert (await door.refused("/kv/put", {"key": b64("a")}))[:2] == (500, 13)
    assert "/v3/kv/put: ZeroDivisionError" in caplog.text
