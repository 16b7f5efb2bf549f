"""Coverage-guided fuzzing of every decoder and of `step`. `make fuzz`; docs/fuzz-ledger.md."""
