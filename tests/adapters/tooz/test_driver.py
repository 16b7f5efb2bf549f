"""Groups, members and leaders of tooz; what a URL may say."""

from pathlib import Path
from typing import Any

import pytest
from oslo_utils import netutils
from tooz import ToozError
from tooz import coordination as tooz

from tests.adapters.conftest import Stock
from tests.adapters.tooz.conftest import Make
from viewstamp.adapters.tooz.driver import ViewstampDriver
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.runtime.addresses import free_ports

ODD = b"a/b\xff %41"


def driver(url: str, **options: str) -> ViewstampDriver:
    return ViewstampDriver(b"m", netutils.urlsplit(url), {name: [each] for name, each in options.items()})


def test_any_bytes_are_a_name(made: Make) -> None:
    one, two = made(ODD), made("umlaut-ä")
    one.create_group(ODD).get()
    one.create_group(b"a").get()
    one.join_group(ODD, {"weight": 3}).get()
    two.join_group(ODD).get()
    assert set(one.get_groups().get()) == {ODD, b"a"}
    assert one.get_members(ODD).get() == {ODD, "umlaut-ä".encode()}
    assert one.get_members(b"a").get() == set()
    assert two.get_members_with_capabilities(ODD).get() == {
        ODD: {"weight": 3},
        "umlaut-ä".encode(): None,
    }


def test_each_error_says_what_is_missing(made: Make) -> None:
    one, two = made(b"one"), made(b"two")
    for operation in (
        one.join_group(b"g"), one.leave_group(b"g"), one.get_members(b"g"), one.delete_group(b"g"),
        one.update_capabilities(b"g", {}), one.get_member_info(b"g", b"one"),
    ):  # fmt: skip
        with pytest.raises(tooz.GroupNotCreated):
            operation.get()
    one.create_group(b"g").get()
    with pytest.raises(tooz.GroupAlreadyExist):
        two.create_group(b"g").get()
    for operation in (one.leave_group(b"g"), one.update_capabilities(b"g", {})):
        with pytest.raises(tooz.MemberNotJoined):
            operation.get()
    one.join_group(b"g").get()
    with pytest.raises(tooz.MemberAlreadyExist):
        one.join_group(b"g").get()
    with pytest.raises(tooz.GroupNotEmpty):
        two.delete_group(b"g").get()
    one.leave_group(b"g").get()
    two.delete_group(b"g").get()


def test_a_member_that_is_not_heard_of_is_gone_and_its_leadership_with_it(
    made: Make, store: BlockingCoordination
) -> None:
    one, two = made(b"one"), made(b"two")
    one.create_group(b"g").get()
    one.join_group(b"g").get()
    told: list[Any] = []

    def events(event: tooz.Event) -> None:
        told.append(event)

    one.watch_elected_as_leader(b"g", events)
    two.watch_elected_as_leader(b"g", events)
    two.watch_leave_group(b"g", events)
    one.run_watchers()
    two.run_watchers()
    assert [each.member_id for each in told] == [b"one"]
    assert one._session is not None
    store.revoke(one._session.lease)  # what the store does when its time is over
    two.run_watchers()
    assert [type(each) for each in told[1:]] == [tooz.MemberLeftGroup, tooz.LeaderElected]
    assert two.get_leader(b"g").get() == b"two"
    assert not one.stand_down_group_leader(b"g")


def test_who_no_longer_watches_an_election_stands_down(made: Make) -> None:
    one = made(b"one")
    told: list[Any] = []

    def events(event: tooz.Event) -> None:
        told.append(event)

    one.watch_elected_as_leader(b"g", events)
    one.run_elect_coordinator()
    assert one.get_leader(b"g").get() == b"one"
    one.unwatch_elected_as_leader(b"g", events)
    assert one.get_leader(b"g").get() is None


def test_coordinators_with_other_namespaces_do_not_see_each_other(made: Make) -> None:
    made(b"one", namespace="a").create_group(b"g").get()
    assert made(b"one", namespace="b").get_groups().get() == []


def test_a_cluster_file_is_a_url_as_well(stock: Stock, store: BlockingCoordination, tmp_path: Path) -> None:
    stock.config.save(tmp_path / "cluster.toml")
    one = driver(f"viewstamp://{tmp_path}/cluster.toml", request_timeout="30")
    one.start()
    one.create_group(b"g").get()
    one.stop()
    assert store.kv.get("tooz/groups/g") is not None


def test_a_heartbeat_is_due_well_before_the_end(made: Make) -> None:
    assert made(timeout=30).heartbeat() == 20.0


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("viewstamp://", {}, "names no cluster"),
        ("viewstamp:///etc/hosts", {}, "names no cluster"),
        ("viewstamp://a:1", {"timeout": "soon"}, "timeout is a number of seconds, not 'soon'"),
        ("viewstamp://a:1", {"timeout": "nan"}, "timeout is a number of seconds"),
        ("viewstamp://a:1", {"request_timeout": "-1"}, "request_timeout is a number of seconds"),
    ],
)
def test_what_a_url_cannot_say_is_refused(url: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(ToozError, match=text):
        driver(url, **options)


def test_without_a_server_it_does_not_start(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    one = driver(f"viewstamp://127.0.0.1:{port}", request_timeout="0.2")
    with pytest.raises(tooz.ToozConnectionError, match="nothing was done"):
        one.start()
    with pytest.raises(ToozError, match="is not started"):
        one.get_lock(b"l").acquire()
    with pytest.raises(ToozError, match=r"missing\.toml"):
        driver(f"viewstamp://{tmp_path}/missing.toml").start()
