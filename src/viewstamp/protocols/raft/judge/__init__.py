"""What checks Raft from outside: the oracle, its invariants, descriptions. Skip it on a first reading."""
