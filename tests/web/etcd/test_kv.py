"""etcd's KV service at a real store."""

import pytest

from tests.web.etcd.door import Door, Stream, b64
from viewstamp.web.etcd import kv

LONG = b64("x" * 1_000_001)
FUTURE = {"key": b64("a"), "revision": str(1 << 60)}


async def test_what_was_written_is_read_with_its_revisions(door: Door) -> None:
    first = await door.put("a", "1")
    second = await door.put("a", "2")
    said = await door.post("/kv/range", {"key": b64("a")})
    assert int(said["header"]["revision"]) == second > first
    assert said["kvs"] == [
        {
            "key": b64("a"), "value": b64("2"), "version": "2",
            "create_revision": str(first), "mod_revision": str(second),
        }
    ]  # fmt: skip
    assert said["count"] == "1"
    past = await door.post("/kv/range", {"key": b64("a"), "revision": str(first)})
    assert past["kvs"][0]["value"] == b64("1")
    assert past["header"]["revision"] == str(second)


async def test_an_empty_store_has_a_first_revision(door: Door) -> None:
    """Patroni watches from the revision of its first, empty list."""
    empty = {"key": b64("a"), "range_end": b64("b")}
    said = await door.post("/kv/range", empty)
    assert (said["header"]["revision"], "kvs" in said) == ("1", False)
    assert (await door.post("/kv/range", {**empty, "revision": "1"}))["header"]["revision"] == "1"
    at = await door.put("a", "1")
    stream = Stream(door, {**empty, "start_revision": "1"})
    assert await stream.events(1) == [("PUT", "a", at)]
    await stream.close()


async def test_a_range_is_read_whole_whatever_one_page_of_the_store_holds(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viewstamp.services.store.table.PAGE_ITEMS_MAX", 3)
    at = [await door.put(f"k{number}") for number in range(8)][-1]
    every = {"key": b64("k"), "range_end": b64("l")}
    assert len((await door.post("/kv/range", every))["kvs"]) == 8
    cut = await door.post("/kv/range", {**every, "limit": 5, "revision": str(at)})
    assert (len(cut["kvs"]), cut["more"], cut["count"]) == (5, True, "8")
    monkeypatch.setattr(kv, "RANGE_BYTES_MAX", 4)
    status, code, text = await door.refused("/kv/range", every)
    assert (status, code) == (429, 8)
    assert "read it in parts" in text


async def test_a_deletion_tells_what_there_was(door: Door) -> None:
    await door.put("d/1", "x")
    await door.put("d/2", "y")
    gone = await door.post("/kv/deleterange", {"key": b64("d/"), "range_end": b64("d0"), "prev_kv": True})
    assert gone["deleted"] == "2"
    assert [each["value"] for each in gone["prev_kvs"]] == [b64("x"), b64("y")]
    assert "deleted" not in await door.post("/kv/deleterange", {"key": b64("d/1")})


async def test_a_lock_is_taken_by_one_and_released_by_its_holder(door: Door) -> None:
    def taking(name: str) -> dict[str, object]:
        fields = {"key": b64("lock"), "value": b64(name)}
        return {
            "compare": [{"key": b64("lock"), "target": "CREATE", "create_revision": "0"}],
            "success": [{"request_put": fields}],
            "failure": [{"request_range": {"key": b64("lock")}}],
        }

    taken = await door.post("/kv/txn", taking("one"))
    assert taken["succeeded"] is True
    assert taken["responses"][0]["response_put"]["header"]["revision"] == taken["header"]["revision"]
    refused = await door.post("/kv/txn", taking("two"))
    assert "succeeded" not in refused
    assert refused["responses"][0]["response_range"]["kvs"][0]["value"] == b64("one")


async def test_a_leader_that_lost_its_key_takes_it_anew_in_an_inner_transaction(door: Door) -> None:
    """What Patroni's `update_leader` sends."""
    fields = {"key": b64("leader"), "value": b64("me")}
    asked = {
        "compare": [{"key": b64("leader"), "target": "VALUE", "value": b64("me")}],
        "success": [{"request_put": fields}],
        "failure": [
            {
                "request_txn": {
                    "compare": [{"key": b64("leader"), "target": "CREATE", "create_revision": "0"}],
                    "success": [{"request_put": fields}],
                }
            }
        ],
    }
    first = await door.post("/kv/txn", asked)
    assert "succeeded" not in first
    assert first["responses"][0]["response_txn"]["succeeded"] is True
    assert (await door.post("/kv/txn", asked))["succeeded"] is True
    await door.put("leader", "another")
    last = await door.post("/kv/txn", asked)
    assert "succeeded" not in last["responses"][0]["response_txn"]


async def test_a_compacted_revision_is_not_read(door: Door) -> None:
    first = await door.put("a", "1")
    second = await door.put("a", "2")
    await door.post("/kv/compaction", {"revision": str(second)})
    wanted = (400, 11, "etcdserver: mvcc: required revision has been compacted")
    assert await door.refused("/kv/range", {"key": b64("a"), "revision": str(first)}) == wanted
    assert await door.refused("/kv/compaction", {"revision": str(first)}) == wanted


@pytest.mark.parametrize(
    ("path", "body", "wanted"),
    [
        ("/kv/range", FUTURE, (400, 11, "etcdserver: mvcc: required revision is a future revision")),
        ("/kv/put", {"key": b64("a"), "lease": "5"}, (404, 5, "etcdserver: requested lease not found")),
        ("/kv/put", {"key": b64("a"), "ignore_value": True}, (400, 3, "etcdserver: key not found")),
        ("/kv/put", {"key": b64("a"), "value": LONG}, (400, 3, "etcdserver: request is too large")),
        (
            "/kv/txn",
            {"success": [{"request_put": {"key": b64("a")}}] * 2},
            (400, 3, "etcdserver: duplicate key given in txn request"),
        ),
        (
            "/kv/txn",
            {"success": [{"request_range": {"key": b64("a")}}] * 1_025},
            (400, 3, "etcdserver: too many operations in txn request"),
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_refused_in_etcds_words(
    door: Door, path: str, body: object, wanted: tuple[int, int, str]
) -> None:
    assert await door.refused(path, body) == wanted
    assert "kvs" not in await door.post("/kv/range", {"key": b64("a")})
