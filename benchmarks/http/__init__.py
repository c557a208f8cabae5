"""`python -m benchmarks.http`: the engine beside other clients, against one nginx."""
