"""Who watches a run: ghosts, invariants, the narrator, the budget."""
