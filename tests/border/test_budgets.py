"""No client takes more memory, time or places than a stated budget, and operators always get an answer."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.border.conftest import MakeVictim, Victim
from tests.border.test_depth import call
from viewstamp.core.messages import (
    NO_SESSION,
    QueryRequest,
    Results,
    Submit,
    client_number,
    encode_message,
)
from viewstamp.link.framing import CLIENT, HELLO, encode_frame, frame_header
from viewstamp.link.handshake import client_hello
from viewstamp.runtime.config import NodeConfig
from viewstamp.testkit.hostile_wire import Attacker, peak_bytes, secret_of, slowest_status, status_within

pytestmark = pytest.mark.process

MIB = 1 << 20
UNFINISHED = 60
UNFINISHED_BYTES = 4 * MIB
GROWTH_MAX_BYTES = 96 * MIB
"""What a node may grow by under any attack of this file: frames of all clients share one budget of 64 MiB."""
BUSY_S = 1.0
"""Two cores are shared with other work here: the bound that is asserted. The record is benchmarks/storm."""
KEYS = 3_000
QUERIES = 8_000
SILENT = 4_300
PLACE = 99
NUMBER = client_number(secret_of(PLACE))


@contextmanager
def watched(victim: Victim) -> Iterator[Callable[[], float]]:
    """Ask every node for its status as long as the block runs; the answer is the slowest, in seconds."""
    over = threading.Event()
    slowest: list[float] = []
    failures: list[BaseException] = []

    def look() -> None:
        try:
            slowest.append(slowest_status(victim.group.cluster.addresses.values(), lambda: not over.is_set()))
        except (OSError, AssertionError) as error:
            failures.append(error)

    thread = threading.Thread(target=look)
    thread.start()

    def seen() -> float:
        over.set()
        thread.join()
        assert failures == []
        return max(slowest)

    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_unfinished_frames_take_no_more_than_the_budget(attack: MakeVictim) -> None:
    victim = attack()
    pid = victim.leading_process.pid
    before = peak_bytes(pid)
    size = NodeConfig().client_frame_bytes_max
    begin = frame_header(CLIENT, bytes(size)) + bytes(UNFINISHED_BYTES)
    leader = victim.leader
    with ExitStack() as stack, watched(victim) as slowest:
        for _ in range(UNFINISHED):
            stack.enter_context(Attacker(leader)).send(begin)
        assert slowest() < BUSY_S
        assert peak_bytes(pid) - before < GROWTH_MAX_BYTES
        victim.assert_serves()
    victim.assert_unharmed()


def test_a_frame_that_never_ends_is_given_up(attack: MakeVictim) -> None:
    """A byte now and then keeps no connection: the deadline is the frame's."""
    victim = attack(settings="segment_bytes = 4194304\nframe_timeout_ms = 500\n")
    with Attacker(victim.leader) as attacker:
        attacker.send(frame_header(CLIENT, bytes(1_000)))
        while not attacker.closed:
            attacker.send(b"x")
            try:
                attacker.receive_frame()
            except TimeoutError:
                pytest.fail("the frame was waited for without an end")
    victim.assert_unharmed()


def filled(victim: Victim) -> None:
    """Store 3 MB, so that a page of it is long."""
    with Attacker(victim.leader) as client:
        values = [(n + 1, call("set", f"key{n:06d}", b"x" * 1_000)) for n in range(KEYS)]
        client.say(Submit(client.speak_for(PLACE), NO_SESSION, 0, values))
        assert client.receive(Results) is not None


@pytest.mark.parametrize("reads", ["linearizable", "stale"])
def test_a_message_of_many_queries_holds_up_nobody(attack: MakeVictim, reads: str) -> None:
    victim = attack()
    filled(victim)
    pid, leader = victim.leading_process.pid, victim.leader
    before = peak_bytes(pid)
    page = call("range", "", "", 1_000)
    ask = QueryRequest(NUMBER, reads, [(n, page) for n in range(QUERIES)])  # type: ignore[arg-type]
    frame = encode_frame(CLIENT, encode_message(ask))
    with watched(victim) as slowest:
        for _ in range(5):
            with Attacker(leader) as attacker:
                attacker.speak_for(PLACE)
                attacker.send(frame)
                attacker.receive(Results)
        assert slowest() < BUSY_S
    assert peak_bytes(pid) - before < GROWTH_MAX_BYTES
    victim.assert_serves()


def test_explanations_of_invalid_calls_are_bounded(attack: MakeVictim) -> None:
    """Each of a million calls that are none would be answered with a sentence: the message gets one."""
    victim = attack()
    pid, leader = victim.leading_process.pid, victim.leader
    before = peak_bytes(pid)
    nothing = call("x")
    ask = QueryRequest(NUMBER, "stale", [(n, nothing) for n in range(1_000_000)])
    frame = encode_frame(CLIENT, encode_message(ask))
    with watched(victim) as slowest:
        for _ in range(3):
            with Attacker(leader) as attacker:
                attacker.speak_for(PLACE)
                attacker.send(frame)
                attacker.receive(Results)
        assert slowest() < BUSY_S
    assert peak_bytes(pid) - before < GROWTH_MAX_BYTES
    victim.assert_serves()


def test_silent_clients_shut_no_operator_out(attack: MakeVictim) -> None:
    victim = attack()
    leader = victim.leader
    hello = encode_frame(HELLO, client_hello("", None))
    with ExitStack() as stack:
        for number in range(SILENT):
            source = f"127.0.1.{1 + number % 200}"
            connection = socket.create_connection(leader, timeout=10, source_address=(source, 0))
            stack.enter_context(connection)
            connection.sendall(hello)
        assert status_within(leader) < 10 * BUSY_S
        victim.assert_serves()
    victim.assert_unharmed()


def test_connections_from_one_address_are_limited(attack: MakeVictim) -> None:
    """One machine with a bug does not take the places of all others."""
    victim = attack()
    leader = victim.leader
    welcomed = 0
    with ExitStack() as stack:
        for _ in range(SILENT // 2):
            client = stack.enter_context(Attacker(leader))
            welcomed += client.welcomed
            if not client.welcomed:
                break
        assert welcomed < NodeConfig().clients_max // 2
        assert status_within(leader) < 10 * BUSY_S
        victim.assert_serves()


def test_refusals_do_not_fill_the_log(attack: MakeVictim) -> None:
    victim = attack()
    server, leader = victim.leading_process, victim.leader
    before = server.log.stat().st_size
    for number in range(500):
        name = f"{number:04d}" + "x" * 2_000
        with Attacker(leader, hello=encode_frame(HELLO, client_hello(name, None))) as stranger:
            assert not stranger.welcomed
        with Attacker(leader) as client:
            client.send(encode_frame(CLIENT, b"\x93" + bytes((number % 256,)) * 40))
            assert client.ended()
    assert server.log.stat().st_size - before < 64 << 10
    victim.assert_unharmed()


def test_a_client_that_reads_nothing_takes_no_more_than_its_share(attack: MakeVictim) -> None:
    victim = attack()
    filled(victim)
    pid, leader = victim.leading_process.pid, victim.leader
    before = peak_bytes(pid)
    ask = encode_message(QueryRequest(NUMBER, "stale", [(1, call("range", "", "", 1_000))]))
    with ExitStack() as stack, watched(victim) as slowest:
        for _ in range(20):
            deaf = stack.enter_context(Attacker(leader))
            deaf.speak_for(PLACE)
            deaf.send(encode_frame(CLIENT, ask) * 50)
        assert slowest() < BUSY_S
        victim.assert_serves()
        assert peak_bytes(pid) - before < 4 * GROWTH_MAX_BYTES
    victim.assert_unharmed()
