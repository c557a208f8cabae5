"""`python -m benchmarks.http`: the client and the fetcher beside other clients.

__main__      the command line; runs the clients in turn
scenarios     what is measured, and the goals
job           what a client process is told and reports
client        one client in a process of its own; the table of clients
with_*        the clients
servers       nginx, and delay_server, which answers late
report        medians and goals as text
"""
