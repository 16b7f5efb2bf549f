"""The coordination store: keys with revisions, transactions, history, watches and leases as one machine.

Read `types` first (what clients send and get), then `machine` (the commands and queries), then what these
stand on: `table` (the keys as they are), `history` (as they were), `leases`, `transactions`, `changes` (what
a watch asks), `images` (snapshots). `stock_store` shows the same keys under the methods of `services.kv`.

The rules are etcd's, where they are not said to differ: v3 of its API, `etcdserverpb/rpc.proto`.
"""

from viewstamp.services.store.machine import CoordinationStore

__all__ = ["CoordinationStore"]
