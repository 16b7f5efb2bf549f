"""What a message between members may meet."""

from random import Random
from typing import Any

import msgspec
import pytest

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import NodeId
from viewstamp.link.framing import PEER, Splitter, encode_frame
from viewstamp.sim.faults.faults import cut_links
from viewstamp.sim.world.network import Network
from viewstamp.sim.world.options import NetworkOptions, PartitionMode
from viewstamp.sim.world.world import World


class Note(msgspec.Struct, frozen=True, array_like=True, tag=1):
    number: int


class Letters:
    def __init__(self, options: NetworkOptions) -> None:
        self.world = World()
        self.arrived: list[tuple[int, NodeId, NodeId, Any]] = []
        self.network = Network(self.world, Random(1), options, Note, self._deliver)

    def _deliver(self, source: NodeId, to: NodeId, message: Any) -> None:
        self.arrived.append((self.world.now_us, source, to, message))

    def send(self, count: int) -> None:
        for number in range(count):
            self.network.send(NodeId(0), NodeId(1), Note(number))
        self.world.run_until(10**9)


def test_all_messages_arrive_equal_when_nothing_is_wrong() -> None:
    letters = Letters(NetworkOptions(delay_min_us=100, encode=1.0))
    letters.send(200)
    assert sorted(message.number for *_, message in letters.arrived) == list(range(200))
    assert min(at for at, *_ in letters.arrived) >= 100
    assert letters.network.sent_bytes > 0


def test_messages_overtake_each_other() -> None:
    letters = Letters(NetworkOptions())
    letters.send(50)
    numbers = [message.number for *_, message in letters.arrived]
    assert numbers != sorted(numbers)


@pytest.mark.parametrize(
    ("options", "count", "least", "most"),
    [
        (NetworkOptions(loss=0.3), "lost", 230, 370),
        (NetworkOptions(duplication=0.3), "duplicated", 230, 370),
        (NetworkOptions(corruption=0.3, encode=1.0), "damaged", 230, 370),
        (NetworkOptions(late=0.3, late_max_us=10**6), "late", 230, 370),
    ],
)
def test_every_effect_is_counted(options: NetworkOptions, count: str, least: int, most: int) -> None:
    letters = Letters(options)
    letters.send(1_000)
    effects = letters.network.counts
    assert least < effects[count] < most
    assert len(letters.arrived) == 1_000 - effects["lost"] - effects["damaged"] + effects["duplicated"]


def test_nothing_passes_when_the_link_is_cut_one_way() -> None:
    letters = Letters(NetworkOptions())
    letters.network.cut({(0, 1)})
    letters.send(5)
    letters.network.send(NodeId(1), NodeId(0), Note(9))
    letters.world.run_until(2 * 10**9)
    assert [(source, to) for _, source, to, _ in letters.arrived] == [(1, 0)]
    assert letters.network.counts["cut off"] == 5


def test_cut_stays_when_another_one_is_healed() -> None:
    letters = Letters(NetworkOptions())
    letters.network.cut({(0, 1)}, "story")
    letters.network.cut({(1, 0)})
    letters.network.cut(set())
    assert letters.network.is_cut(0, 1)
    letters.network.heal()
    assert not letters.network.is_cut(0, 1)


def test_copies_arrive_again_when_they_are_repeated() -> None:
    letters = Letters(NetworkOptions())
    letters.send(5)
    letters.network.repeat(NodeId(0), 3)
    letters.network.repeat(NodeId(1), 3)
    letters.world.run_until(2 * 10**9)
    assert len(letters.arrived) == 8
    assert letters.network.counts["echoed"] == 3


def test_copies_arrive_long_after_when_the_network_echoes() -> None:
    letters = Letters(NetworkOptions(echo=0.5, echo_max_us=10**7))
    letters.send(400)
    letters.world.run_until(2 * 10**9)
    assert 150 < letters.network.counts["echoed"] == len(letters.arrived) - 400 < 250
    assert max(at for at, *_ in letters.arrived) > 9 * 10**6


def test_messages_are_held_back_when_the_link_is_clogged() -> None:
    letters = Letters(NetworkOptions(delay_min_us=0, delay_mean_us=10))
    letters.network.clog(0, 1, 500_000)
    letters.send(5)
    assert min(at for at, *_ in letters.arrived) >= 500_000
    assert letters.network.counts["clogged"] == 5


def test_production_framing_notices_when_any_bit_is_flipped() -> None:
    frame = encode_frame(PEER, msgspec.msgpack.encode(Note(123_456)))
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            frames = list(Splitter(1 << 20).split(bytes(damaged)))
        except ProtocolViolation:
            continue
        assert frames == [], bit  # a longer length: the splitter waits for what never comes


def test_network_does_not_carry_messages_that_are_intercepted() -> None:
    letters = Letters(NetworkOptions())
    letters.network.intercept = lambda _source, _to, message: message.number % 2 == 0
    letters.send(10)
    assert sorted(message.number for *_, message in letters.arrived) == [1, 3, 5, 7, 9]
    assert letters.network.counts["messages"] == 10


@pytest.mark.parametrize("mode", ["isolate", "split", "bridge", "ring"])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_partition_cuts_both_ways_and_never_a_node_from_itself(mode: PartitionMode, size: int) -> None:
    members = [NodeId(number) for number in range(size)]
    for seed in range(20):
        links = cut_links(mode, members, Random(seed))
        assert all(link[::-1] in links and link[0] != link[1] for link in links)
        if mode == "isolate":
            assert len(links) == 2 * (size - 1)
        if mode == "bridge" and size > 2:
            assert not any(0 in link for link in links)
        if mode == "ring":
            neighbours = {(node, (node + 1) % size) for node in range(size)}
            assert not links & neighbours
