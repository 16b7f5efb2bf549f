"""Broken: one line is wrong. Run `pytest --viewstamp restore_differs:Queue`."""

import msgspec

import viewstamp


class Queue(viewstamp.StateMachine):
    def __init__(self) -> None:
        self.waiting: list[str] = []

    @viewstamp.command
    def join(self, name: str) -> int:
        self.waiting.append(name)
        return len(self.waiting)

    @viewstamp.command
    def serve(self) -> str:
        return self.waiting.pop(0) if self.waiting else ""

    def snapshot(self) -> bytes:
        return msgspec.json.encode(self.waiting)

    def restore(self, snapshot: bytes) -> None:
        self.waiting = sorted(msgspec.json.decode(snapshot))
