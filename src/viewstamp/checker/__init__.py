"""The linearizability checker: histories, models, search, drawings. It needs nothing of the simulator."""
