"""Where each client can be reached."""

from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.ids import ClientAddress
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.responses import ClientAddresses

A, B = ClientAddress(1), ClientAddress(2)


def test_the_newest_connection_counts_when_a_client_comes_twice() -> None:
    addresses = ClientAddresses(ReplicaOptions())
    addresses.bind(7, A)
    addresses.bind(7, B)
    addresses.gone(A)
    assert addresses.address_of(7) == B
    addresses.gone(B)
    assert addresses.address_of(7) is None


def test_all_clients_of_a_connection_are_forgotten_when_it_is_gone() -> None:
    addresses = ClientAddresses(ReplicaOptions())
    addresses.bind(7, A)
    addresses.bind(8, A)
    addresses.bind(9, B)
    addresses.waiting |= {7, 8, 9}
    addresses.gone(A)
    assert (len(addresses), addresses.waiting, addresses.arrived) == (1, {9}, {9})


def test_a_client_arrives_only_when_its_connection_is_new() -> None:
    addresses = ClientAddresses(ReplicaOptions())
    addresses.bind(7, A)
    addresses.arrived.clear()
    addresses.bind(7, A)
    assert addresses.arrived == set()
    addresses.bind(7, B)
    assert addresses.arrived == {7}


def test_nobody_is_forgotten_when_one_connection_speaks_for_too_many() -> None:
    addresses = ClientAddresses(ReplicaOptions(clients_per_connection_max=2))
    assert [addresses.bind(client, A) for client in (7, 8)] == ["", ""]
    assert addresses.bind(9, A) == "this connection speaks for 2 clients already (clients_per_connection_max)"
    assert [addresses.bind(7, A), addresses.bind(9, B)] == ["", ""]
    assert [addresses.address_of(client) for client in (7, 8, 9)] == [A, A, B]


def test_a_client_keeps_its_connection_when_the_other_may_not_speak_for_it() -> None:
    addresses = ClientAddresses(ReplicaOptions(clients_per_connection_max=1))
    addresses.bind(7, A)
    addresses.bind(8, B)
    assert addresses.bind(7, B)
    assert addresses.address_of(7) == A


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.booleans()), max_size=80))
def test_both_tables_agree_and_stay_bounded_whatever_happens(steps: list[tuple[int, int, bool]]) -> None:
    addresses = ClientAddresses(ReplicaOptions(clients_max=3))
    for client, source, gone in steps:
        if gone:
            addresses.gone(ClientAddress(source))
        else:
            full = len(addresses) == 3 and addresses.address_of(client) is None
            assert bool(addresses.bind(client, ClientAddress(source))) == full
            if not full:
                addresses.waiting.add(client)
        known = {c for clients in addresses._clients.values() for c in clients}
        assert known == set(addresses._addresses)
        assert all(addresses._clients.values())
        assert len(addresses) <= 3
        assert addresses.waiting | addresses.arrived <= known
