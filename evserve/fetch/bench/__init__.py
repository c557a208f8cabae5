"""`python -m evserve.fetch.bench`: the engine beside other clients, against one nginx."""
