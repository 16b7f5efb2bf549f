"""Replicated containers in one line each, and one with a command of its own, on three replicas here."""

import asyncio

import viewstamp
from viewstamp.containers import ReplicatedDeque, ReplicatedDict, ReplicatedSet


class Scores(ReplicatedDict[str, int]):
    """Points by player."""

    @viewstamp.command
    def score(self, player: str, points: int) -> int:
        self.entries[player] = self.entries.get(player, 0) + points
        return self.entries[player]


class Tags(ReplicatedSet[str]):
    """Tags that were seen."""


class Recent(ReplicatedDeque[str]):
    """What happened lately."""


Game = viewstamp.compose(scores=Scores, tags=Tags, recent=Recent)


async def play() -> None:
    async with viewstamp.local_cluster(Game) as cluster:
        await cluster.leader()
        async with cluster.connect() as game:
            await game.scores.set("ann", 1)
            print("ann has", await game.scores.score("ann", 2))
            print("new:", await game.tags.add("fast"), "known:", not await game.tags.add("fast"))
            for event in ("start", "score", "stop"):
                await game.recent.append(event)
            print("first was", await game.recent.pop_left(), "then", await game.recent.slice())


def main() -> None:
    asyncio.run(play())


if __name__ == "__main__":
    main()
