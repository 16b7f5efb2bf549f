"""tooz's driver `viewstamp://`: its groups, locks and elections on the coordination store.

Read in this order:

1. `session`: a client of the store and one lease, to which all that a coordinator holds is attached;
2. `locks`: locks for one and shared locks;
3. `driver`: groups, members and leaders.

Source: tooz 9.1, `tooz/coordination.py` and `tooz/locking.py`.
"""
