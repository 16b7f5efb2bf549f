"""What users wait for beside the work itself, one module each. All of them: `python -m benchmarks.wait`."""
