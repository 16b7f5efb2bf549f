"""Who can be reached where."""

from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.ids import ClientAddress
from viewstamp.replica.responses import ClientAddresses

A, B = ClientAddress(1), ClientAddress(2)


def test_the_newest_connection_counts_when_a_client_comes_twice() -> None:
    audience = ClientAddresses(10)
    audience.note(7, A)
    audience.note(7, B)
    audience.gone(A)
    assert audience.address_of(7) == B
    audience.gone(B)
    assert audience.address_of(7) is None


def test_all_clients_of_a_connection_are_forgotten_when_it_is_gone() -> None:
    audience = ClientAddresses(10)
    audience.note(7, A)
    audience.note(8, A)
    audience.note(9, B)
    audience.waiting |= {7, 8, 9}
    audience.gone(A)
    assert (len(audience), audience.waiting, audience.arrived) == (1, {9}, {9})


def test_a_client_arrives_only_when_its_connection_is_new() -> None:
    audience = ClientAddresses(10)
    audience.note(7, A)
    audience.arrived.clear()
    audience.note(7, A)
    assert audience.arrived == set()
    audience.note(7, B)
    assert audience.arrived == {7}


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.booleans()), max_size=80))
def test_both_tables_agree_and_stay_bounded_whatever_happens(steps: list[tuple[int, int, bool]]) -> None:
    audience = ClientAddresses(3)
    for client, source, gone in steps:
        if gone:
            audience.gone(ClientAddress(source))
        else:
            audience.note(client, ClientAddress(source))
            audience.waiting.add(client)
        known = {c for clients in audience._clients.values() for c in clients}
        assert known == set(audience._addresses)
        assert all(audience._clients.values())
        assert len(audience) <= 3
        assert audience.waiting | audience.arrived <= known
