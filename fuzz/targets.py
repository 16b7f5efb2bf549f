"""What is fuzzed: each decoder, and `step` of each protocol with hostile conversations.

A target takes any bytes. It returns, whatever they are, or raises what it has found: an exception that the
decoder does not promise, or a value that changes when it is encoded and decoded again.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from fuzz import requests, sequences
from viewstamp.checker.history import HistoryError, parse_line
from viewstamp.core.errors import ConfigurationError, JournalCorrupt, ProtocolViolation
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.messages import (
    UNREADABLE,
    ServerMessage,
    decode_client_message,
    decode_server_message,
    encode_message,
)
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.link.framing import HEADER_BYTES, HELLO, SERVER, WELCOME, Splitter
from viewstamp.link.handshake import Hello, Welcome, decode_hello, decode_refusal, decode_welcome
from viewstamp.machine.definition import MachineDefinition
from viewstamp.protocols.registry import LABORATORY_NAMES, PROTOCOL_NAMES, protocol_definition
from viewstamp.replica import snapshot_body
from viewstamp.replica.batches import BatchUnreadable, Decoders, decode_batch
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.runtime.config import ClusterConfig
from viewstamp.services.stock import StockService
from viewstamp.sim.workloads.hostile_frames import CallGrammar, Grammar, peer_grammar
from viewstamp.storage import identity
from viewstamp.storage.framing import Identity, SegmentHeader, encode_segment_header
from viewstamp.storage.recovery import SegmentReader, beginning, check_segment_header, decode_writes

Seeds = Callable[[int], Iterator[bytes]]
"""From a seed of dice: inputs from which a fuzzer begins, and which it mixes in."""
PROTOCOLS: Final = (*PROTOCOL_NAMES, *LABORATORY_NAMES)
SEEDS: Final = 12
_FRAME_BYTES_MAX: Final = 1 << 16
_STOCK: Final = MachineDefinition.of(StockService)
_OWNER: Final = Identity("fuzz", NodeId(1), Incarnation(11))


class Target(NamedTuple):
    """One thing that is fuzzed."""

    name: str
    run: Callable[[bytes], None]
    seeds: Seeds


def _payloads(make: Callable[[int], Grammar], seed: int) -> Iterator[bytes]:
    grammar = make(seed)
    while True:
        yield grammar.next().payload


def _client(data: bytes) -> None:
    try:
        message = decode_client_message(data)
    except ProtocolViolation:
        return
    assert decode_client_message(encode_message(message)) == message


def _server(data: bytes) -> None:
    try:
        message = decode_server_message(data)
    except ProtocolViolation:
        return
    assert decode_server_message(encode_message(message)) == message


def _hello(data: bytes) -> None:
    for decode in (decode_hello, decode_welcome):
        try:
            decode(data)
        except ProtocolViolation:
            continue
    assert decode_refusal(data).isprintable()


def _peer(definition: ProtocolDefinition) -> Callable[[bytes], None]:
    decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(definition.message_type)
    encoder = msgspec.msgpack.Encoder()

    def run(data: bytes) -> None:
        try:
            message = decoder.decode(data)
        except UNREADABLE:
            return
        assert decoder.decode(encoder.encode(message)) == message

    return run


def _batch(data: bytes) -> None:
    try:
        decode_batch(data, Decoders.of(_STOCK))
    except BatchUnreadable:
        return


def _batches(seed: int) -> Iterator[bytes]:
    grammar = CallGrammar(seed, StockService)
    while True:
        messages = [msgspec.Raw(grammar.valid().payload) for _ in range(3)]
        yield msgspec.msgpack.encode((5, (1, 2), messages))


def _journal(definition: ProtocolDefinition) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        image = definition.make_oracle(sequences.MEMBERS).make_image()
        try:
            writes = msgspec.msgpack.decode(data, type=list[tuple[bytes, ...]])
        except UNREADABLE:
            return
        try:
            for seq, records in enumerate(writes, start=1):
                image.write(PersistSeq(seq), records)
        except JournalCorrupt:
            return

    return run


def _journals(definition: ProtocolDefinition, seed: int) -> Iterator[bytes]:
    rng = Random(seed)
    writes = sequences.journals(definition)
    while True:
        script = rng.choice(writes)
        yield msgspec.msgpack.encode(script[: rng.randint(1, len(script))])


def _segment(data: bytes) -> None:
    """A segment of a journal whose owner is known: the fuzzer writes what follows its header."""
    header = SegmentHeader(1, PersistSeq(1), 0, PersistSeq(1), 512 + len(data))
    whole = encode_segment_header(header, _OWNER) + data
    assert check_segment_header(whole, 1, _OWNER, None) == header
    reader = SegmentReader(whole, beginning(header), _OWNER.seed)
    try:
        for frame in reader:
            decode_writes(frame)
    except ValueError:
        return
    reader.end()


def _segment_header(data: bytes) -> None:
    check_segment_header(data, 1, _OWNER, None)


def _identity(data: bytes) -> None:
    try:
        identity._decode(data, "identity")
    except (ConfigurationError, JournalCorrupt):
        return


def _snapshot(data: bytes) -> None:
    state = ReplicatedState(_STOCK, SessionLimits())
    snapshot = BytesSnapshot(Viewstamp(View(1), Seqno(5)), b"", data)
    try:
        snapshot_body.restore(snapshot, state)
    except snapshot_body.SnapshotUnreadable:
        return


def _snapshots(_seed: int) -> Iterator[bytes]:
    state = ReplicatedState(_STOCK, SessionLimits())
    while True:
        yield b"".join(snapshot_body.capture(state))


def _cluster_file(data: bytes) -> None:
    try:
        config = ClusterConfig.from_toml(data)
        config.check()  # an option may be any value of TOML until its protocol is asked
    except ConfigurationError:
        return
    assert ClusterConfig.from_toml(config.to_toml().encode()) == config


def _cluster_files(_seed: int) -> Iterator[bytes]:
    members = "".join(f'\n[[members]]\nid = {n}\nhost = "127.0.0.{n}"\nport = 74{n}0\n' for n in (1, 2, 3))
    while True:
        yield f'cluster_id = "c"\nprotocol = "raft"\n[options]\nx = 1\n{members}'.encode()


def _history(data: bytes) -> None:
    try:
        parse_line(data)
    except HistoryError:
        return


def _histories(_seed: int) -> Iterator[bytes]:
    while True:
        yield b'{"client":1,"call":5,"return":9,"op":"put","args":["v"],"outcome":"ok","result":[1]}'


def _splitter(data: bytes) -> None:
    """However a stream is cut into pieces, it yields the same frames."""
    if not data:
        return
    step = 1 + data[0]
    stream = data[1:] + bytes(HEADER_BYTES)  # a fault is seen once a header is whole
    assert _frames(stream, len(stream) or 1) == _frames(stream, step)


def _frames(stream: bytes, step: int) -> list[object]:
    splitter = Splitter(_FRAME_BYTES_MAX)
    frames: list[object] = []
    try:
        for start in range(0, len(stream), step):
            frames += splitter.split(stream[start : start + step])
    except ProtocolViolation as violation:
        frames.append(str(violation))
    return frames


def _streams(seed: int) -> Iterator[bytes]:
    grammar = CallGrammar(seed, StockService)
    while True:
        yield b"\x05" + b"".join(frame.data for frame in grammar.frames(3))


def _conversations(definition: ProtocolDefinition, seed: int) -> Iterator[bytes]:
    """Honest conversations, into which hostile messages were mixed."""
    rng = Random(seed)
    grammar = peer_grammar(seed, definition.message_type, facts=sequences.facts())
    scripts = sequences.conversation(definition)
    while True:
        script = rng.choice(scripts)
        events = list(sequences.unpacked(script))[: rng.randrange(1, sequences.EVENTS_MAX)]
        for _ in range(rng.randrange(8)):
            message = rng.randrange(2), grammar.valid().payload
            events.insert(max(0, len(events) - rng.randrange(12)), message)
        packed = (sequences.packed(*event) for event in events if len(event[1]) < 1 << 16)
        yield script[:1] + b"".join(packed)


def _targets() -> Iterator[Target]:
    yield Target("client_message", _client, partial(_payloads, lambda s: CallGrammar(s, StockService)))
    yield Target("server_message", _server, partial(_payloads, lambda s: Grammar(s, SERVER, ServerMessage)))
    yield Target("hello", _hello, partial(_payloads, lambda s: Grammar(s, HELLO, Hello)))
    yield Target("welcome", _hello, partial(_payloads, lambda s: Grammar(s, WELCOME, Welcome)))
    yield Target("frames", _splitter, _streams)
    yield Target("batch", _batch, _batches)
    yield Target("snapshot_body", _snapshot, _snapshots)
    yield Target("segment", _segment, _streams)
    yield Target("segment_header", _segment_header, _streams)
    yield Target("identity", _identity, _histories)
    yield Target("cluster_file", _cluster_file, _cluster_files)
    yield Target("history", _history, _histories)
    for name, machine in (("stock", StockService), ("tangled", requests.Tangled)):
        yield Target(f"requests_{name}", partial(requests.play, machine), partial(requests.seeds, machine))
    for name in PROTOCOLS:
        definition = protocol_definition(name)
        grammar = partial(peer_grammar, message_type=definition.message_type, facts=sequences.facts())
        yield Target(f"peer_{name}", _peer(definition), partial(_payloads, grammar))
        yield Target(f"step_{name}", partial(sequences.play, definition), partial(_conversations, definition))
        yield Target(f"journal_{name}", _journal(definition), partial(_journals, definition))


TARGETS: Final[Mapping[str, Target]] = {target.name: target for target in _targets()}
"""By name."""
