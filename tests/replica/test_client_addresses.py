"""Where each client can be reached."""

from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.ids import ClientAddress
from viewstamp.replica.responses import ClientAddresses

A, B = ClientAddress(1), ClientAddress(2)


def test_the_newest_connection_counts_when_a_client_comes_twice() -> None:
    addresses = ClientAddresses(10)
    addresses.note(7, A)
    addresses.note(7, B)
    addresses.gone(A)
    assert addresses.address_of(7) == B
    addresses.gone(B)
    assert addresses.address_of(7) is None


def test_all_clients_of_a_connection_are_forgotten_when_it_is_gone() -> None:
    addresses = ClientAddresses(10)
    addresses.note(7, A)
    addresses.note(8, A)
    addresses.note(9, B)
    addresses.waiting |= {7, 8, 9}
    addresses.gone(A)
    assert (len(addresses), addresses.waiting, addresses.arrived) == (1, {9}, {9})


def test_a_client_arrives_only_when_its_connection_is_new() -> None:
    addresses = ClientAddresses(10)
    addresses.note(7, A)
    addresses.arrived.clear()
    addresses.note(7, A)
    assert addresses.arrived == set()
    addresses.note(7, B)
    assert addresses.arrived == {7}


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.booleans()), max_size=80))
def test_both_tables_agree_and_stay_bounded_whatever_happens(steps: list[tuple[int, int, bool]]) -> None:
    addresses = ClientAddresses(3)
    for client, source, gone in steps:
        if gone:
            addresses.gone(ClientAddress(source))
        else:
            addresses.note(client, ClientAddress(source))
            addresses.waiting.add(client)
        known = {c for clients in addresses._clients.values() for c in clients}
        assert known == set(addresses._addresses)
        assert all(addresses._clients.values())
        assert len(addresses) <= 3
        assert addresses.waiting | addresses.arrived <= known
