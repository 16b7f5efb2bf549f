"""A session belongs to the client that opened it, and lives as long as was promised."""

from collections.abc import Iterable

import pytest

from tests.border.conftest import FRAGILE, MakeVictim, Victim
from tests.border.test_depth import call
from viewstamp.clients.locks_blocking import BlockingLockClient
from viewstamp.core.errors import NotExecuted
from viewstamp.core.messages import (
    SECRET_BYTES,
    ClientMessage,
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Redirect,
    Results,
    SessionOpened,
    Submit,
    client_number,
    decode_server_message,
)
from viewstamp.testkit.hostile_wire import Attacker

pytestmark = pytest.mark.process

SESSIONS_MAX = 200
FLOOD = 10 * SESSIONS_MAX
PER_CONNECTION = 50
GUESSES = 40


@pytest.mark.parametrize("after_a_restart", [False, True])
def test_a_session_is_not_stolen_by_the_number_that_queries_show(
    attack: MakeVictim, after_a_restart: bool
) -> None:
    victim = attack()
    with BlockingLockClient(victim.group.cluster, timeout_s=30) as locks:
        held = locks.acquire("treasure", timeout_s=20)
        (shown,) = locks.held().locks
        assert shown.holder is not None
        if after_a_restart:
            victim.leading_process.kill()
            victim.group.start()
            victim.assert_unharmed()
        steal(victim, shown.holder.client)
        assert locks.stat("treasure").holder == shown.holder
        assert held.standing == "held"
        held.release()
    victim.assert_unharmed()


def steal(victim: Victim, number: int) -> None:
    """Say everything that might take over, use or end another client's session; each is turned away."""
    release = call("locks.release", "treasure", 1)
    stat = call("locks.stat", "treasure")
    guesses = range(1 << 20, GUESSES << 20, 1 << 20)  # sessions are named by the entry that opened them
    own = bytes([7]) * SECRET_BYTES
    words: list[ClientMessage] = [Identify(number, own), OpenSession(number, 1)]
    words += [QueryRequest(number, "stale", [(1_000, stat)])]
    words += [QueryRequest(number, "linearizable", [(1_001, stat)])]
    for guess in guesses:
        words += [CloseSession(number, guess), KeepAlive(number, guess)]
        words += [Submit(number, guess, 0, [(1_000, release)]), Submit(number, guess, 1 << 40, [])]
    for address in victim.group.cluster.addresses.values():
        with Attacker(address) as thief:
            thief.say(Identify(client_number(own), own), *words)
            refusals = [thief.receive(Redirect) for _ in words]
            assert {refusal.client for refusal in refusals if refusal is not None} == {number}
            assert {refusal.leader for refusal in refusals if refusal is not None} == {None}


def test_a_session_is_taken_up_again_over_another_connection_with_the_secret(attack: MakeVictim) -> None:
    victim = attack()
    secret = bytes([9]) * SECRET_BYTES
    number = client_number(secret)
    leader = victim.leader
    with Attacker(leader) as first, Attacker(leader) as second:
        first.say(Identify(number, secret), OpenSession(number, 1))
        opened = first.receive(SessionOpened)
        second.say(Identify(number, secret), OpenSession(number, 1))
        assert second.receive(SessionOpened) == opened
        first.say(OpenSession(number, 2))
        refusal = first.receive(Redirect)
        assert refusal is not None
        assert "identify first" in refusal.reason


def test_a_flood_of_sessions_ends_nobody_elses(attack: MakeVictim) -> None:
    victim = attack(replica={"sessions": {"sessions_max": SESSIONS_MAX}})
    with BlockingLockClient(victim.group.cluster, timeout_s=30) as locks:
        held = locks.acquire("treasure", timeout_s=20)
        before = locks.stat("treasure").holder
        leader = victim.leader
        opened = sum(flood(leader, range(n, n + PER_CONNECTION)) for n in range(0, FLOOD, PER_CONNECTION))
        assert opened == SESSIONS_MAX - 1
        assert locks.stat("treasure").holder == before
        assert held.standing == "held"
        with (
            BlockingLockClient(victim.group.cluster, timeout_s=30) as late,
            pytest.raises(NotExecuted, match="sessions_max"),
        ):
            late.acquire("other", timeout_s=20)
        held.release()
    victim.assert_unharmed()


def flood(address: tuple[str, int], clients: Iterable[int]) -> int:
    """Open sessions over one connection; return how many were opened. Every question is answered."""
    with Attacker(address) as attacker:
        secrets = [client.to_bytes(SECRET_BYTES, "big") for client in clients]
        for secret in secrets:
            attacker.say(Identify(client_number(secret), secret), OpenSession(client_number(secret)))
        opened = refused = 0
        while opened + refused < len(secrets):
            _, payload = attacker.receive_frame()
            answer = decode_server_message(payload)
            opened += isinstance(answer, SessionOpened)
            refused += isinstance(answer, Results)
        return opened


def test_one_connection_speaks_for_so_many_clients_and_no_more(attack: MakeVictim) -> None:
    victim = attack(replica={"clients_per_connection_max": 5})
    with Attacker(victim.leader) as attacker:
        secrets = [number.to_bytes(SECRET_BYTES, "big") for number in range(6)]
        for secret in secrets:
            attacker.say(Identify(client_number(secret), secret))
        refusal = attacker.receive(Redirect)
        assert refusal is not None
        assert refusal.client == client_number(secrets[-1])
        assert "clients_per_connection_max" in refusal.reason
    victim.assert_unharmed()


def test_results_that_nobody_acknowledges_end_nobody_elses_session(attack: MakeVictim) -> None:
    victim = attack(FRAGILE, replica={"sessions": {"result_bytes_max": 1 << 20}})
    leader = victim.leader
    with Attacker(leader, source="127.0.0.1") as honest:
        me = honest.speak_for(7)
        honest.say(OpenSession(me, 1))
        mine = honest.receive(SessionOpened)
        assert mine is not None
        for place in range(100, 140):
            with Attacker(leader) as attacker:
                number = attacker.speak_for(place)
                attacker.say(OpenSession(number, 1))
                theirs = attacker.receive(SessionOpened)
                if theirs is not None:
                    calls = [(n + 1, call("echo", bytes(8_000))) for n in range(16)]
                    attacker.say(Submit(number, theirs.session, 0, calls))
                    attacker.receive(Results)
        honest.say(KeepAlive(me, mine.session, 2))
        again = honest.receive(SessionOpened)
        assert again is not None
        assert again.session == mine.session
    victim.assert_unharmed()
