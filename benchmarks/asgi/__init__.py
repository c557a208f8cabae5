"""`python -m benchmarks.asgi`: an ASGI application under `twistd evserve asgi` and under uvicorn.

__main__      the command line
app           the application
pages         what it answers
scenarios     what is asked for, and the goals
probe         asks a server for a websocket once, and checks the answer
serve         one server in a process of its own

benchmarks.web.turns starts the servers and lets them take turns.
"""
