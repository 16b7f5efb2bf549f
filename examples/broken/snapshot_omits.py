"""Broken: one line is wrong. Run `pytest --viewstamp snapshot_omits:Average`."""

import msgspec

import viewstamp


class Average(viewstamp.StateMachine):
    def __init__(self) -> None:
        self.total = 0
        self.count = 0

    @viewstamp.command
    def add(self, value: int) -> int:
        self.total += value
        self.count += 1
        return self.total // self.count

    def snapshot(self) -> bytes:
        return msgspec.json.encode({"total": self.total})

    def restore(self, snapshot: bytes) -> None:
        self.total = msgspec.json.decode(snapshot)["total"]
