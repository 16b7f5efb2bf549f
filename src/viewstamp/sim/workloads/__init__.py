"""What the clients of a run do: `clients.py`, then `workload.py`; `catalogue.py` has them by name."""
