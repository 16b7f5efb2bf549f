"""The grammar of hostile frames: what it calls valid is valid, and equal seeds make equal frames."""

from typing import Any

import msgspec
import pytest

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.messages import ClientMessage, ServerMessage, decode_client_message
from viewstamp.link.framing import CLIENT, HELLO, Splitter
from viewstamp.protocols.registry import LABORATORY_NAMES, PROTOCOL_NAMES, protocol_definition
from viewstamp.services.stock import StockService
from viewstamp.sim.workloads.hostile_frames import (
    CallGrammar,
    Frame,
    Grammar,
    hello_grammar,
    members_of,
    peer_grammar,
)
from viewstamp.sim.workloads.hostile_values import nested_arrays, nested_maps

PROTOCOLS = (*PROTOCOL_NAMES, *LABORATORY_NAMES)
UNIONS = {"client": ClientMessage, "server": ServerMessage} | {
    name: protocol_definition(name).message_type for name in PROTOCOLS
}
VALID = 40


@pytest.mark.parametrize("name", UNIONS)
def test_a_valid_frame_of_each_message_can_be_read(name: str) -> None:
    grammar = Grammar(1, CLIENT, UNIONS[name])
    decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(UNIONS[name])
    for kind in members_of(UNIONS[name]):
        for _ in range(VALID):
            frame = grammar.valid(kind)
            ((_, payload),) = Splitter(1 << 20).split(frame.data)
            assert type(decoder.decode(payload)) is kind, frame.name


def test_equal_seeds_make_equal_frames_and_others_do_not() -> None:
    frames = [list(CallGrammar(seed, StockService).frames(500)) for seed in (1, 1, 2)]
    assert frames[0] == frames[1]
    assert frames[0] != frames[2]


def test_the_mixture_holds_what_is_accepted_and_what_is_not() -> None:
    accepted = [_accepted(frame) for frame in CallGrammar(3, StockService).frames(2_000)]
    assert 0.2 < sum(accepted) / len(accepted) < 0.8


def test_every_fault_has_a_name_of_its_own() -> None:
    frames = list(hello_grammar(1, HELLO).every_fault())
    assert len({frame.name for frame in frames}) == len(frames)
    assert len(frames) > 200


def test_facts_stand_where_their_names_say() -> None:
    grammar = peer_grammar(1, ClientMessage, facts={"client": [4242]})
    payloads = [grammar.valid().payload for _ in range(200)]
    assert sum(msgspec.msgpack.encode(4242) in payload for payload in payloads) > 50


@pytest.mark.parametrize("nest", [nested_arrays, nested_maps])
def test_nested_values_have_the_depth_that_was_asked_for(nest: Any) -> None:
    value, depth = msgspec.msgpack.decode(nest(5)), 0
    while value is not None:
        value, depth = next(iter(value.values() if isinstance(value, dict) else value)), depth + 1
    assert depth == 5


def _accepted(frame: Frame) -> bool:
    try:
        for _, payload in Splitter(1 << 20).split(frame.data):
            decode_client_message(payload)
    except ProtocolViolation:
        return False
    return True
