"""etcd's Lease service at a real store."""

from tests.web.etcd.door import Door, b64

GONE = (404, 5, "etcdserver: requested lease not found")


async def test_a_lease_lives_and_its_keys_with_it(door: Door) -> None:
    granted = await door.post("/lease/grant", {"TTL": "60"})
    lease = granted["ID"]
    assert granted["TTL"] == "60"
    await door.put("a", "x", lease=lease)
    kept = await door.post("/lease/keepalive", {"ID": lease})
    assert (kept["result"]["ID"], kept["result"]["TTL"]) == (lease, "60")
    left = await door.post("/lease/timetolive", {"ID": lease, "keys": True})
    assert left["grantedTTL"] == "60"
    assert 50 <= int(left["TTL"]) <= 60
    assert left["keys"] == [b64("a")]
    assert (await door.post("/lease/leases"))["leases"] == [{"ID": lease}]
    assert (await door.post("/kv/range", {"key": b64("a")}))["kvs"][0]["lease"] == lease
    await door.post("/lease/revoke", {"ID": lease})
    assert "kvs" not in await door.post("/kv/range", {"key": b64("a")})


async def test_a_lease_that_has_ended_is_told_so_in_etcds_way(door: Door) -> None:
    kept = await door.post("/lease/keepalive", {"ID": 77})
    assert kept["result"]["ID"] == "77"
    assert "TTL" not in kept["result"]
    assert (await door.post("/lease/timetolive", {"ID": 77}))["TTL"] == "-1"
    assert await door.refused("/lease/revoke", {"ID": 77}) == GONE


async def test_the_client_may_choose_the_number(door: Door) -> None:
    assert (await door.post("/lease/grant", {"TTL": 0, "ID": "77"}))["TTL"] == "1"
    taken = (412, 9, "etcdserver: lease already exists")
    assert await door.refused("/lease/grant", {"TTL": 5, "ID": "77"}) == taken
    too_large = (400, 11, "etcdserver: too large lease TTL")
    for ttl in ("9000000000", "9000000001", str(1 << 62)):
        assert await door.refused("/lease/grant", {"TTL": ttl}) == too_large


async def test_leases_are_listed_over_the_pages_of_the_store(door: Door, monkeypatch: object) -> None:
    numbers = [(await door.post("/lease/grant", {"TTL": 60}))["ID"] for _ in range(3)]
    assert [each["ID"] for each in (await door.post("/lease/leases"))["leases"]] == numbers


async def test_the_paths_of_older_clients_mean_the_same(door: Door) -> None:
    lease = (await door.post("/lease/grant", {"TTL": 60}))["ID"]
    assert (await door.post("/kv/lease/timetolive", {"ID": lease}))["grantedTTL"] == "60"
    assert (await door.post("/kv/lease/leases"))["leases"] == [{"ID": lease}]
    await door.post("/kv/lease/revoke", {"ID": lease})
    assert "leases" not in await door.post("/lease/leases")
