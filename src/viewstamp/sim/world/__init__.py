"""The simulated world: time, network, disks and processes, and the options that a seed draws for them.

Read `world.py`, `options.py`, `network.py`, `disk.py`, `process.py`; `trace.py` records what happens.
"""
