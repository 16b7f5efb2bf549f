"""Runs: `run.py` for one seed, `liveness.py` for its second phase, `campaign.py` for many, `shrink.py`."""
