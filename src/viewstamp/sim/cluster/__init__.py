"""One simulated cluster put together (`cluster.py`), its operators, and scripted control (`scenario.py`)."""
