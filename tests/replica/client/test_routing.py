"""Where a client sends, and how patiently."""

from random import Random

from viewstamp.core.ids import Instant, NodeId
from viewstamp.replica.client.routing import Router
from viewstamp.replica.options import ClientOptions

A, B, C = NodeId(1), NodeId(2), NodeId(3)
T0 = Instant(0)


def _router(*up: NodeId, seed: int = 1, backoff_max_ms: int = 1_000) -> Router:
    options = ClientOptions(backoff_max_ms=backoff_max_ms)
    router = Router((A, B, C), Random(seed), options, "any", T0)
    for server in up:
        router.connected(server, T0)
    return router


def test_all_clients_begin_with_the_first_server_when_the_operator_chooses() -> None:
    assert {_router(A, B, C, seed=seed).choose(T0) for seed in range(10)} == {A}


def test_clients_begin_with_different_servers_when_a_leader_is_elected() -> None:
    routers = [Router((A, B, C), Random(seed), ClientOptions(), "leader", T0) for seed in range(20)]
    assert {router.target for router in routers} == {A, B, C}


def test_nobody_is_chosen_when_nobody_is_connected() -> None:
    router = _router()
    assert router.choose(T0) is None
    assert router.choose_any() is None
    router.connected(NodeId(9), T0)
    assert router.choose(T0) is None, "9 is not a server of this cluster"


def test_only_connected_servers_are_chosen() -> None:
    router = _router(C)
    assert router.choose(T0) == C
    assert router.choose_any() == C


def test_the_named_leader_is_chosen_at_once() -> None:
    router = _router(A, B, C)
    router.redirected(A, C, T0)
    assert router.choose(T0) == C


def test_the_next_server_is_asked_when_the_leader_is_unknown_or_not_connected() -> None:
    for named in (None, C, A):
        router = _router(A, B)
        router.redirected(A, named, T0)
        assert router.choose(T0) == B


def test_what_an_earlier_target_says_changes_nothing() -> None:
    router = _router(A, B, C)
    router.redirected(B, C, T0)
    router.failed(C, T0)
    assert router.choose(T0) == A


def test_pauses_grow_up_to_the_limit_and_end_with_progress() -> None:
    router = _router(A, B, C)
    now = T0
    pauses = []
    for _ in range(30):
        router.failed(router.target, now)
        pauses.append(router.not_before - now)
        now = max(now, router.not_before)
    assert pauses[:2] == [0, 0], "the other two are tried first"
    assert max(pauses) <= 1_000_000
    assert min(pauses[20:]) >= 500_000
    router.progress()
    router.failed(router.target, now)
    assert router.choose(now) is not None


def test_a_pause_is_made_when_no_server_knows_the_leader() -> None:
    router = _router(A, B, C)
    for server in (A, B, C):
        assert router.choose(T0) == server
        router.redirected(server, None, T0)
    assert router.choose(T0) is None


def test_pauses_differ_between_clients() -> None:
    waits = set()
    for seed in range(10):
        router = _router(A, seed=seed)
        router.overloaded(T0)
        waits.add(router.not_before)
    assert len(waits) > 5


def test_a_pause_ends_when_the_first_server_comes_back() -> None:
    router = _router(A)
    for _ in range(20):
        router.failed(A, T0)
    router.up.clear()
    router.connected(B, Instant(5))
    assert router.choose(Instant(5)) == B


def test_members_when_they_change_are_the_servers_from_then_on() -> None:
    router = _router(A, B)
    d = NodeId(4)
    router.serve((B, C, d))
    assert router.up == {B}
    assert router.choose(T0) == B, "the target was removed"
    router.connected(d, T0)
    assert router.up == {B, d}
    assert {router.choose_any() for _ in range(6)} == {B, d}


def test_target_when_all_members_are_others_is_one_of_them() -> None:
    router = _router(A, B, C)
    router.serve((NodeId(8), NodeId(9)))
    assert router.choose(T0) is None
    router.connected(NodeId(9), T0)
    assert router.choose(T0) == 9
