"""Measurements. Each module is a program: `python -m benchmarks.NAME --help`."""
