"""What watches a run: ghosts, invariants, and the judge that calls them. It needs no world.

Read `ghosts.py`, then `invariants/base.py` and one family, then `judge.py`.
"""
