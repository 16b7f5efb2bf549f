import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import msgspec
import pytest

import viewstamp
from tests.runtime.fakes import LATE_S, WAIT_S, cluster_of
from tests.runtime.machines import Counter, Empty
from viewstamp.core.errors import CallError, CommandFailed, InvalidCall, NotExecuted
from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.link.framing import WELCOME, encode_frame
from viewstamp.link.handshake import Doorkeeper
from viewstamp.runtime import blocking
from viewstamp.runtime.addresses import format_address, free_ports
from viewstamp.runtime.client_base import CLIENT_LIMITS
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster


@pytest.fixture
def cluster() -> Iterator[BlockingLocalCluster[Counter]]:
    with local_cluster(Counter) as made:
        yield made


def test_calls_return_what_the_machine_returns(cluster: BlockingLocalCluster[Counter]) -> None:
    with cluster.connect() as counter:
        assert counter.add(3) == 3
        assert counter.add(amount=4) == 7
        assert counter.read() == 7
        assert viewstamp.with_options(counter, reads="stale").read() <= 7


def test_cluster_is_found_when_one_address_is_known(cluster: BlockingLocalCluster[Counter]) -> None:
    known = format_address(next(iter(cluster.config.addresses.values())))
    with viewstamp.connect_blocking([f"127.0.0.1:{free_ports(1)[0]}", known], Counter) as counter:
        assert counter.add(1) == 1


def test_errors_are_those_of_the_async_client(cluster: BlockingLocalCluster[Counter]) -> None:
    with cluster.connect() as counter:
        with pytest.raises(Empty, match="only 0 left"):
            counter.take(6)
        with pytest.raises(CommandFailed):
            counter.explode()
        with pytest.raises(InvalidCall, match="Expected `int`"):
            counter.add("three")  # type: ignore[arg-type]


def test_every_call_has_its_own_result_when_threads_call_at_once(
    cluster: BlockingLocalCluster[Counter],
) -> None:
    results: list[int] = []
    with cluster.connect() as counter:

        def load() -> None:
            results.extend(counter.add(1) for _ in range(25))

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(results) == list(range(1, 201))


def test_nothing_is_lost_or_duplicated_when_the_leader_is_killed(
    cluster: BlockingLocalCluster[Counter],
) -> None:
    with cluster.connect(timeout_s=20) as counter:
        leader = cluster.leader()
        for number in range(1, 31):
            if number == 10:
                cluster.kill(leader)
            if number == 20:
                cluster.restart(leader)
            assert counter.add(1) == number


def test_server_that_was_away_is_dialled_at_once_when_it_is_named_as_the_leader(
    cluster: BlockingLocalCluster[Counter], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = msgspec.structs.replace(CLIENT_LIMITS, backoff_min_ms=60_000, backoff_max_ms=60_000)
    monkeypatch.setattr(blocking, "CLIENT_LIMITS", never)
    with cluster.connect(timeout_s=20) as counter:
        counter.add(1)
        leader = cluster.leader()
        away = next(node for node in cluster.statuses() if node != leader)
        cluster.kill(away)
        assert counter.add(1) == 2  # on the way the end of the connection is noticed
        cluster.restart(away)
        while (leader := cluster.leader()) != away:  # on a busy machine another one may lead by now
            cluster._run(cluster._inner.servers[leader].direct(TransferLeadership(away)))
        assert counter.add(1) == 3


@pytest.mark.parametrize("timeout_s", [0.2, 0.7])
def test_call_ends_by_its_deadline_when_nobody_is_there(timeout_s: float) -> None:
    with viewstamp.connect_blocking(cluster_of(*free_ports(3)), Counter, timeout_s=timeout_s) as counter:
        begun = time.monotonic()
        with pytest.raises(NotExecuted, match=r"(?s)1.*2.*3"):
            counter.add(1)
        assert timeout_s - 0.01 <= time.monotonic() - begun <= timeout_s + LATE_S


def test_each_thread_keeps_its_deadline_when_several_wait() -> None:
    took: dict[float, float] = {}
    with viewstamp.connect_blocking(cluster_of(*free_ports(3)), Counter) as counter:

        def call(timeout_s: float) -> None:
            begun = time.monotonic()
            with pytest.raises(NotExecuted):
                viewstamp.with_options(counter, timeout_s=timeout_s).add(1)
            took[timeout_s] = time.monotonic() - begun

        threads = [threading.Thread(target=call, args=(wait_s,)) for wait_s in (0.8, 0.5, 0.2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    for timeout_s, took_s in took.items():
        assert timeout_s - 0.01 <= took_s <= timeout_s + LATE_S
    assert len(took) == 3


@contextmanager
def silent_server() -> Iterator[ClusterConfig]:
    """A server that welcomes everybody and never answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    cluster = cluster_of(listening.getsockname()[1])
    welcome = encode_frame(WELCOME, Doorkeeper(cluster.identity(NodeId(1), "leader")).welcome)
    accepted: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted.append(listening.accept()[0])
                accepted[-1].sendall(welcome)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield cluster
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)
        for sock in accepted:
            sock.close()


def test_deadline_is_kept_when_another_thread_waits_for_the_sockets_longer() -> None:
    with (
        silent_server() as cluster,
        viewstamp.connect_blocking(cluster, Counter, timeout_s=LATE_S) as counter,
    ):

        def wait_long() -> None:
            with pytest.raises(CallError):
                counter.add(1)

        thread = threading.Thread(target=wait_long)
        thread.start()
        threading.Event().wait(0.3)
        with pytest.raises(CallError):
            viewstamp.with_options(counter, timeout_s=0.1).add(1)
        assert thread.is_alive()
        thread.join(WAIT_S)


def test_discovery_ends_in_time_when_nobody_answers() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    begun = time.monotonic()
    with pytest.raises(NotExecuted, match=rf"no server answered.*{address}: connection refused"):
        viewstamp.connect_blocking(address, Counter, timeout_s=0.3)
    assert time.monotonic() - begun <= 0.3 + LATE_S


def test_calls_are_refused_when_the_client_is_closed(cluster: BlockingLocalCluster[Counter]) -> None:
    connection = cluster.connect()
    assert connection.proxy.add(1) == 1
    connection.close()
    connection.close()
    with pytest.raises(NotExecuted, match="closed"):
        connection.proxy.add(1)


def test_nothing_is_read_when_the_client_closes_while_its_session_is_looked_after() -> None:
    client = blocking.BlockingClient(cluster_of(*free_ports(3)))
    client.close()
    client._over = SimpleNamespace(wait=_Waits())  # type: ignore[assignment]
    client._keep_session()


class _Waits:
    """Ends one wait by its time, and the next because the client is closed."""

    def __init__(self) -> None:
        self.answers = [True, False]

    def __call__(self, timeout: float) -> bool:
        return self.answers.pop()


def test_waiting_call_ends_when_another_thread_closes_the_client() -> None:
    connection = viewstamp.connect_blocking(cluster_of(*free_ports(3)), Counter)
    ended = threading.Event()

    def call() -> None:
        with pytest.raises(NotExecuted):
            connection.proxy.add(1)
        ended.set()

    thread = threading.Thread(target=call)
    thread.start()
    viewstamp.close(connection.proxy)
    assert ended.wait(5)
    thread.join(5)


def test_no_thread_is_left_when_cluster_and_client_are_closed() -> None:
    before = set(threading.enumerate())
    with local_cluster(Counter, replicas=1) as cluster, cluster.connect() as counter:
        counter.add(1)
    assert set(threading.enumerate()) == before
