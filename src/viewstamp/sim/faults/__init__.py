"""What goes wrong in a run, and when.

`faults.py` draws faults at random and `stories.py` aims them. `search.py` tries them one by one: a scenario
(`scenarios.py`) is repeated, each time with one fault (`single_faults.py`) at another message.
"""
