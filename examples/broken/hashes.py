"""Broken: one line is wrong. Run `pytest --viewstamp hashes:Shards`."""

import viewstamp


class Shards(viewstamp.StateMachine):
    loads: list[int] = [0, 0, 0, 0]

    @viewstamp.command
    def place(self, key: str) -> int:
        shard = hash(key) % len(self.loads)
        self.loads[shard] += 1
        return shard
