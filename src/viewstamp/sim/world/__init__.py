"""The simulated world: time, network, disks and processes, and the options that a seed draws for them.

Read `world.py`, `options.py`, `disk.py`, `process.py`, `network.py`, `connections.py` and `trace.py`.
"""
