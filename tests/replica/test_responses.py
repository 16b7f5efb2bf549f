"""What is said to clients fits into messages, and says everything once."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.replica.fakes import CLIENT, HERE, Bench, call, lines, submit
from viewstamp.core.messages import NO_SESSION, RESULT, Results, encode_message
from viewstamp.replica.events import Respond
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.responses import RESULTS_BYTES_MAX, ClientAddresses, Responses


@given(st.lists(st.integers(0, RESULTS_BYTES_MAX + 5), min_size=1, max_size=12))
def test_results_are_split_so_that_each_message_can_be_sent(sizes: list[int]) -> None:
    responses = Responses(ClientAddresses(ReplicaOptions()))
    whole = [(number, RESULT, msgspec.Raw(bytes(size))) for number, size in enumerate(sizes)]
    responses.lines(HERE, CLIENT, 5, whole)
    messages = [effect.message for effect in responses.effects if isinstance(effect, Respond)]
    parts = [message.results for message in messages if isinstance(message, Results)]
    assert [line for part in parts for line in part] == whole
    for message, part in zip(messages, parts, strict=True):
        assert part
        assert len(part) == 1 or len(encode_message(message)) <= RESULTS_BYTES_MAX + 64


def test_many_small_results_are_split_as_well() -> None:
    bench = Bench()
    raw = msgspec.Raw(call("add", 1))
    many = submit(NO_SESSION)
    flood = msgspec.structs.replace(many, calls=[(n, raw) for n in range(1, 100_001)])
    answers = bench.do(flood)
    assert len(answers) > 1
    assert [sequence for sequence, _, _ in lines(answers)] == list(range(1, 100_001))
    assert max(len(encode_message(answer)) for answer in answers) <= RESULTS_BYTES_MAX + 64
