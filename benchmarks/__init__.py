"""Benchmarks: evserve and its peers side by side, `python -m benchmarks.queue`."""
