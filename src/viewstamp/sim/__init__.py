"""A world made of one seed: network, disks, clocks, processes, clients, and invariants that watch them.

The same replicas, sessions, machines, clients and journal code as in production run in it. Nothing here knows
a protocol: all that it needs stands in the protocol's `ProtocolDefinition` and `Oracle`.

Reading order, from below: each room imports only those before it (import-linter holds this).

1. `judge/`: the ghosts (what no node knows), the invariants, and the judge that calls them at each step.
2. `world/`: one queue of events, the options that a seed draws, network, disks, and a process: one server.
3. `workloads/`: the clients, and what they ask of which machine.
4. `cluster/`: all of it put together, the operators, and `Scenario`: a cluster under a script's control.
5. `faults/`: random faults, stories (aimed ones), and the search that lets one message at a time go wrong.
6. `run/`: one seed from plan to report, campaigns of many, shrinking. Begin with `run/run.py:execute`.

`explorer.py` stands by itself: it walks every interleaving of a few steps of bare cores, without a world.
"""
