"""Load generators: one process each, fed with plans by lines, see `benchmarks.peers.base`."""
