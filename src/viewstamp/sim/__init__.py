"""A world made of one seed: network, disks, clocks, processes, clients, and invariants that watch them.

The same replicas, sessions, machines, clients and journal code as in production run in it. Nothing here knows
a protocol: all that it needs stands in the protocol's `ProtocolDefinition` and `Oracle`.
"""
