"""The registry as an ordinary object: sessions, times to live, replacement, observers."""

from typing import ClassVar

import pytest

from tests.services.recipes.desk import ANNE, BERT, CARL, Desk
from viewstamp.services.locks import InvalidName, NoSession
from viewstamp.services.recipes.names import Changed, Claimed, TooLarge, TooMany
from viewstamp.services.recipes.registry import RegistryLimits, RegistryService, Replaced


def desk() -> Desk[RegistryService]:
    return Desk(RegistryService())


def register(
    at: Desk[RegistryService],
    client: int,
    instance: str,
    sequence: int = 1,
    ttl_ms: int = 0,
    service: str = "s",
) -> Claimed:
    with at.by(client) as registry:
        return registry.register(service, sequence, instance, f"{client}".encode(), ttl_ms)


def found(at: Desk[RegistryService]) -> dict[str, bytes]:
    with at.by(0, reading=True) as registry:
        return {one.instance: one.value for one in registry.instances("s").found}


def test_instances_live_as_long_as_their_sessions() -> None:
    at = desk()
    assert register(at, ANNE, "a") == Claimed("granted", at.token)
    register(at, BERT, "b")
    token = at.token
    assert register(at, BERT, "b").token == token, "it is renewed under its token"
    at.again()
    assert found(at) == {"a": b"1", "b": b"2"}
    at.end(ANNE)
    assert found(at) == {"b": b"2"}
    with at.by(BERT) as registry:
        assert [registry.deregister("s", 1) for _ in range(2)] == ["released", "unknown"]
    assert (at.service.services, at.service.clients) == ({}, {})


def test_an_instance_that_is_not_renewed_in_time_goes() -> None:
    at = desk()
    register(at, ANNE, "a", ttl_ms=100)
    at.now = 60_000
    register(at, ANNE, "a", ttl_ms=100)
    at.now = 159_999
    assert found(at) == {"a": b"1"}
    at.now = 160_000
    assert found(at) == {}, "also before a command takes it out"
    with at.by(CARL) as registry:
        assert registry.observe("s").found == []
    assert at.service.services == {}
    assert register(at, ANNE, "a", ttl_ms=100).state == "granted", "it may come back"


def test_those_that_observe_are_told_when_a_time_to_live_is_over() -> None:
    at = desk()
    with at.by(CARL) as registry:
        registry.observe("s")
    register(at, ANNE, "a", ttl_ms=100)
    at.now = 50_000
    register(at, ANNE, "a", ttl_ms=100)
    at.told.clear()
    at.now = 100_000
    assert at.alarms() == 1, "the moment before it was renewed"
    assert at.told == []
    at.now = 150_000
    assert at.alarms() == 1
    assert at.told == [(CARL, Changed("registry", "s"))]
    assert (at.service.services, at.service.next_alarm()) == ({}, None)


def test_a_new_process_replaces_the_one_before_it_and_that_one_is_told() -> None:
    at = desk()
    old = register(at, ANNE, "a").token
    assert register(at, BERT, "a").token > old
    assert at.asked() == [(ANNE, 1)]
    with pytest.raises(Replaced, match="another client"):
        register(at, ANNE, "a")
    with at.by(ANNE) as registry:
        assert registry.deregister("s", 1) == "withdrawn", "and takes nothing away from the new one"
    assert found(at) == {"a": b"2"}
    register(at, BERT, "c")
    assert found(at) == {"c": b"2"}, "one claim is one instance"


def test_those_that_observe_are_told() -> None:
    at = desk()
    with at.by(CARL) as registry:
        registry.observe("s")
    told = (CARL, Changed("registry", "s"))
    for change in (lambda: register(at, ANNE, "a"), lambda: at.end(ANNE)):
        at.told.clear()
        change()
        assert at.told == [told]
    assert list(at.service.pending_notifications()) == [told]
    with at.by(CARL) as registry:
        registry.ignore("s")
    assert list(at.service.pending_notifications()) == []


def test_what_exceeds_a_limit_is_refused() -> None:
    class Small(RegistryService):
        limits: ClassVar[RegistryLimits] = RegistryLimits(2, 2, 2)

    at = Desk[RegistryService](Small())
    with pytest.raises(NoSession), at.by(ANNE, session=False) as registry:
        registry.register("s", 1, "a")
    for service, instance in (("", "a"), ("s", "")):
        with pytest.raises(InvalidName):
            register(at, ANNE, instance, service=service)
    with pytest.raises(TooLarge):
        register(at, ANNE, "a", ttl_ms=-1)
    register(at, ANNE, "a", 1)
    register(at, ANNE, "b", 2)
    with pytest.raises(TooMany, match="a client"):
        register(at, ANNE, "c", 3, service="t")
    with pytest.raises(TooMany, match="a service"):
        register(at, BERT, "c", 1)
    register(at, BERT, "c", 1, service="t")
    with pytest.raises(TooMany, match="services"):
        register(at, BERT, "c", 2, service="u")
    with at.by(0, reading=True) as registry:
        page = registry.instances("s", 1)
    assert (len(page.found), page.more) == (1, True)


def test_renewals_do_not_pile_up() -> None:
    at = desk()
    for _ in range(1_000):
        register(at, ANNE, "a", ttl_ms=1_000_000)
    assert len(at.service.services["s"].ends) < 100
