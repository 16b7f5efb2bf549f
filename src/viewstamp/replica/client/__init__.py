"""The client of a replicated machine as a core without input or output: calls, routing, its session."""
