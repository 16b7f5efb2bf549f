"""Ordinary messages in extraordinary numbers: honest clients go on."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic

import pytest

from tests.border.conftest import MakeVictim, Victim
from tests.border.test_depth import call
from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.messages import (
    NO_SESSION,
    AdminReply,
    AdminRequest,
    Identify,
    QueryRequest,
    Results,
    Submit,
    client_number,
    encode_message,
)
from viewstamp.link.framing import CLIENT, encode_frame
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.hostile_wire import Attacker, secret_of, status_within

pytestmark = pytest.mark.process

NUMBERS = 70_000
"""More client numbers than a replica remembers."""
PER_FRAME = 4_096
BUSY_S = 2.0
PLACE = 99
NUMBER = client_number(secret_of(PLACE))


class Honest:
    """One client that writes one key after the other while something goes on, and counts what it waited."""

    def __init__(self, victim: Victim) -> None:
        self.slowest_s = 0.0
        self.failures: list[str] = []
        self.calls = 0
        self._over = threading.Event()
        self._victim = victim

    def run(self) -> None:
        """Write until told to stop."""
        asyncio.run(self._write())

    async def _write(self) -> None:
        async with connect(self._victim.group.cluster, KeyValueStore, timeout_s=30) as store:
            while not self._over.is_set():
                began = monotonic()
                try:
                    await store.set("honest", b"v")
                except (NotExecuted, OutcomeUnknown) as error:
                    self.failures.append(str(error))
                self.calls += 1
                self.slowest_s = max(self.slowest_s, monotonic() - began)

    def stop(self) -> None:
        """Stop after the present call."""
        self._over.set()


@contextmanager
def honest_client(victim: Victim) -> Iterator[Honest]:
    honest = Honest(victim)
    thread = threading.Thread(target=honest.run)
    thread.start()
    try:
        yield honest
    finally:
        honest.stop()
        thread.join()


def flood(address: Address, frames: list[bytes], answered: type[Results | AdminReply]) -> None:
    """Send these on one connection, and wait for the first answer and the end."""
    with Attacker(address) as attacker, suppress(TimeoutError):  # it is let wait: that is a server's right
        attacker.speak_for(PLACE)
        attacker.send(b"".join(frames))
        attacker.receive(answered)
        attacker.finish()


def query(place: int) -> bytes:
    secret = secret_of(place)
    number = client_number(secret)
    messages = Identify(number, secret), QueryRequest(number, "linearizable", [(1, call("get", "honest"))])
    return b"".join(encode_frame(CLIENT, encode_message(message)) for message in messages)


def numbers(address: Address) -> None:
    flood(address, [query(place) for place in range(1, NUMBERS)], Results)


def commands(address: Address) -> None:
    for _ in range(12):
        calls = [(n + 1, call("set", "flood", b"x")) for n in range(PER_FRAME)]
        frame = encode_frame(CLIENT, encode_message(Submit(NUMBER, NO_SESSION, 0, calls)))
        flood(address, [frame] * 8, Results)


def queries(address: Address) -> None:
    for _ in range(12):
        calls = [(n + 1, call("get", "honest")) for n in range(PER_FRAME)]
        frame = encode_frame(CLIENT, encode_message(QueryRequest(NUMBER, "linearizable", calls)))
        flood(address, [frame] * 8, Results)


def snapshots(address: Address) -> None:
    request = [encode_frame(CLIENT, encode_message(AdminRequest(n, TakeSnapshot()))) for n in range(2_000)]
    flood(address, request, AdminReply)


def strangers(address: Address) -> None:
    with ExitStack() as stack:
        for _ in range(1_500):
            stack.enter_context(Attacker(address, hello=b""))


FLOODS: dict[str, Callable[[Address], None]] = {
    "numbers": numbers,
    "commands": commands,
    "queries": queries,
    "snapshots": snapshots,
    "strangers": strangers,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_an_honest_client_goes_on(attack: MakeVictim, kind: str) -> None:
    victim = attack()
    leader = victim.leader
    attacker = threading.Thread(target=FLOODS[kind], args=(leader,))
    slowest = 0.0
    with honest_client(victim) as honest:
        attacker.start()
        while attacker.is_alive():
            slowest = max(slowest, status_within(leader))
        attacker.join()
    assert honest.failures == []
    assert honest.slowest_s < BUSY_S
    assert slowest < BUSY_S
    victim.assert_unharmed()
