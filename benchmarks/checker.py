"""How long the linearizability checker takes for 10,000 operations of 10 clients on 10 keys.

Run: python -m benchmarks.checker   (a few seconds)
"""

from random import Random
from time import perf_counter

from viewstamp.checker.history import Operation
from viewstamp.checker.linearizable import check
from viewstamp.checker.store_model import VersionedStore

OPERATIONS = 10_000
CLIENTS = 10
KEYS = 10


def recorded(rng: Random, unknown: float) -> list[Operation]:
    """Return what clients of a correct store would record; this share of the outcomes is unknown."""
    store: dict[str, tuple[str, int]] = {}
    free = [0] * CLIENTS
    calls = []
    for _ in range(OPERATIONS):
        client = min(range(CLIENTS), key=free.__getitem__)
        call = free[client] + rng.randint(1, 20)
        effect, free[client] = call + rng.randint(1, 100), call + rng.randint(101, 200)
        calls.append((effect, call, free[client], client))
    history = []
    for effect, call, returned, client in sorted(calls):
        key = f"k{rng.randrange(KEYS)}"
        value, version = store.get(key, ("", 0))
        if version and rng.random() < 0.5:
            done = Operation(client, call, returned, "get", key, (), "ok", (value, version))
        else:
            store[key] = (f"{client}@{effect}", version + 1)
            done = Operation(client, call, returned, "put", key, (store[key][0], version), "ok", version + 1)
        lost = Operation(client, call, None, done.op, key, done.args, "unknown")
        history.append(lost if rng.random() < unknown else done)
    return history


def main() -> None:
    """Print a line for each share of unknown outcomes."""
    for unknown in (0.0, 0.02, 0.2):
        history = recorded(Random(1), unknown)
        started = perf_counter()
        verdict = check(history, VersionedStore())
        print(f"{unknown:4.0%} unknown: {verdict} in {perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
