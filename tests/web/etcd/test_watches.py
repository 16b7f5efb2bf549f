"""etcd's Watch service: each change once, in order, or the word that the history does not reach back."""

import asyncio

import pytest

from tests.runtime.fakes import until
from tests.web.etcd.door import Door, Stream, b64
from viewstamp.services.store.types import Event, KeyValue
from viewstamp.services.store.watching import Changes
from viewstamp.web.etcd import gateway, watches
from viewstamp.web.etcd.messages import WatchCreateRequest

EVERY = {"key": b64("w/"), "range_end": b64("w0")}


async def test_changes_come_from_the_revision_that_was_asked_for(door: Door) -> None:
    first = await door.put("w/a", "1")
    await door.put("other", "1")
    second = await door.put("w/b", "2")
    stream = Stream(door, {**EVERY, "start_revision": str(first)})
    created = (await stream.next())["result"]
    assert created["created"] is True
    assert int(created["header"]["revision"]) == second
    assert await stream.events(2) == [("PUT", "w/a", first), ("PUT", "w/b", second)]
    gone = await door.post("/kv/deleterange", EVERY)
    at = int(gone["header"]["revision"])
    told = (await stream.next())["result"]
    assert [each["type"] for each in told["events"]] == ["DELETE", "DELETE"], "a revision is told as a whole"
    assert int(told["header"]["revision"]) == at
    await stream.close()


async def test_without_a_revision_a_watch_begins_now_and_without_a_key_it_is_of_all(door: Door) -> None:
    await door.put("w/a", "1")
    stream = Stream(door, {"range_end": b64("\0"), "watch_id": "7", "prev_kv": True})
    assert (await stream.next())["result"]["watch_id"] == "7"
    await door.put("w/a", "2")
    told = (await stream.next())["result"]
    assert told["watch_id"] == "7"
    assert told["events"][0]["prev_kv"]["value"] == b64("1")
    await stream.close()


async def test_filters_leave_out_what_the_client_does_not_want(door: Door) -> None:
    deletions = Stream(door, {**EVERY, "filters": ["NOPUT"]})
    puts = Stream(door, {**EVERY, "filters": [1]})
    for stream in (deletions, puts):
        await stream.next()
    at = await door.put("w/a", "1")
    gone = int((await door.post("/kv/deleterange", EVERY))["header"]["revision"])
    again = await door.put("w/a", "2")
    assert await deletions.events(1) == [("DELETE", "w/a", gone)]
    assert await puts.events(2) == [("PUT", "w/a", at), ("PUT", "w/a", again)]
    for stream in (deletions, puts):
        await stream.close()


async def test_a_compacted_revision_cancels_the_watch_and_says_where_the_history_begins(door: Door) -> None:
    first = await door.put("w/a", "1")
    last = await door.put("w/a", "2")
    await door.post("/kv/compaction", {"revision": str(last)})
    stream = Stream(door, {**EVERY, "start_revision": str(first)})
    assert (await stream.next())["result"]["created"] is True
    said = (await stream.next())["result"]
    assert (said["canceled"], said["compact_revision"]) == (True, str(last))
    await stream.close()


async def test_a_future_revision_tells_nothing_before_it(door: Door) -> None:
    at = await door.put("w/a", "1")
    stream = Stream(door, {**EVERY, "start_revision": str(at + (5 << 20))})
    await stream.next()
    revisions = [await door.put("w/a", str(number)) for number in range(8)]
    wanted = next(each for each in revisions if each >= at + (5 << 20))
    assert (await stream.events(1))[0][2] == wanted
    await stream.close()


async def test_progress_is_told_to_those_who_ask_for_it(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viewstamp.services.store.watching.HOLD_S", 0.05)
    at = await door.put("other", "1")
    stream = Stream(door, {**EVERY, "progress_notify": True})
    await stream.next()
    at = await door.put("other", "2")
    async with asyncio.timeout(30):
        while int((told := await stream.next())["result"]["header"]["revision"]) < at:
            pass
    assert "events" not in told["result"]
    await stream.close()


async def test_what_is_no_watch_is_refused(door: Door) -> None:
    assert (await door.refused("/watch", {"cancel_request": {"watch_id": 1}}))[:2] == (501, 12)
    assert (await door.refused("/watch", {}))[:2] == (501, 12)
    wrong = {"create_request": {**EVERY, "filters": ["NOTHING"]}}
    assert (await door.refused("/watch", wrong))[:2] == (400, 3)


async def test_watches_are_bounded_and_given_back(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "WATCHES_MAX", 1)
    first = Stream(door, EVERY)
    await first.next()
    refused = await door.refused("/watch", {"create_request": EVERY})
    assert refused == (429, 8, "etcdserver: too many requests")
    await first.close()
    second = Stream(door, EVERY)
    await second.next()
    await second.close()


async def test_a_slow_reader_gets_everything_and_holds_nothing_up(door: Door) -> None:
    slow, quick = Stream(door, EVERY), Stream(door, EVERY)
    await slow.next()
    await quick.next()
    revisions = [await door.put("w/a", str(number)) for number in range(50)]
    assert [each[2] for each in await quick.events(50)] == revisions
    assert [each[2] for each in await slow.events(50)] == revisions
    for stream in (slow, quick):
        await stream.close()
    await until(lambda: not door.gateway._watches)


def changes(revision: int, *names: str, more: bool = False) -> Changes:
    events = [Event(name.encode(), KeyValue(name.encode(), b"v", revision, revision, 1)) for name in names]
    return Changes(revision, events, more)


def told(parts: watches._Parts, what: Changes) -> list[tuple[int, bool]]:
    return [(len(each.get("events", [])), each.get("fragment", False)) for each in parts.of(what)]


def test_a_revision_that_comes_in_parts_is_told_as_a_whole() -> None:
    parts = watches._Parts(WatchCreateRequest())
    assert told(parts, changes(5, "a", more=True)) == []
    assert told(parts, changes(5, "b")) == [(2, False)]
    assert told(parts, changes(6, "c")) == [(1, False)]


def test_parts_are_told_to_those_who_ask_and_where_there_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = watches._Parts(WatchCreateRequest(fragment=True))
    assert told(asked, changes(5, "a", more=True)) == [(1, True)]
    assert told(asked, changes(5)) == [(0, False)], "the last part says that it is the last"
    monkeypatch.setattr(watches, "REVISION_BYTES_MAX", 1)
    large = watches._Parts(WatchCreateRequest())
    assert told(large, changes(5, "a", more=True)) == [(1, True)]
    assert told(large, changes(5, "b")) == [(1, False)]


def test_a_revision_of_which_nothing_is_left_is_not_told() -> None:
    parts = watches._Parts(WatchCreateRequest(filters=["NOPUT"], fragment=True))
    assert told(parts, changes(5, "a", more=True)) == []
    assert told(parts, changes(5, "b")) == []
