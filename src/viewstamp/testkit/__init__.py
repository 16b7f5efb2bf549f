"""Real processes, load and kills: what the demo, the benchmarks and the process tests share."""
