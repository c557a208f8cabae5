"""`python -m benchmarks.web`: twisted.web, stock and fast, beside other web servers.

__main__      the command line
turns         starts the servers and lets them take turns
scenarios     what is asked for, and the goals
systems       the table of servers
pages         what they answer
serve         one server in a process of its own
with_*        the servers
probe         asks a server once, checks the answer and takes its length

benchmarks.reactor has the load (load.c) and what measures a server.
"""
