"""RPC_LOSSY and RPC_COUNT at a server's door."""

from random import Random
from typing import Any

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import KeepAlive, QueryRequest, Submit, encode_message
from viewstamp_labs.lab6824.traffic import Traffic


class Door:
    """What a driver and a transport have of it."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.answered: list[bytes] = []

    def client_frame(self, source: ClientAddress, payload: bytes, principal: str) -> None:
        self.taken.append(payload)

    def respond(self, to: ClientAddress, payload: bytes) -> None:
        self.answered.append(payload)


def calls(*names: str) -> Any:
    return [(place, msgspec.Raw(msgspec.msgpack.encode([name, 1]))) for place, name in enumerate(names, 1)]


def test_calls_are_counted_by_the_numbers_of_the_course() -> None:
    said: list[str] = []
    door: Any = Door()
    Traffic({"RPC_COUNT": "4"}, Random(1), said.append).attach(door, door)
    for message in (
        Submit(1, 2, 0, calls("acquire", "locks.acquire", "make")),
        KeepAlive(1, 2),
        QueryRequest(1, "linearizable", calls("read")),
        Submit(1, 2, 0, calls("release", "remove", "store")),
    ):
        door.client_frame(ClientAddress(1), encode_message(message), "")
    door.client_frame(ClientAddress(1), b"\xc1", "")
    assert said == ["RPC STATS: 6002:1 7001:2 7002:1"]
    assert len(door.taken) == 5


def test_messages_and_answers_are_lost_as_asked() -> None:
    door: Any = Door()
    Traffic({"RPC_LOSSY": "20"}, Random(1)).attach(door, door)
    for _ in range(1_000):
        door.client_frame(ClientAddress(1), b"", "")
        door.respond(ClientAddress(1), b"")
    assert 750 < len(door.taken) < 850
    assert 750 < len(door.answered) < 850


@pytest.mark.parametrize("setting", [{"RPC_LOSSY": "100"}, {"RPC_COUNT": "x"}, {"RPC_LOSSY": "-1"}])
def test_what_is_no_number_is_refused(setting: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        Traffic(setting, Random(1))
