"""A load generator: drives a server, checks every byte of its answers, and measures latencies.

From Python: `report = await run_load(reactor, Plan("tcp:127.0.0.1:9000", seconds=2))`.

- plan: what to do to a server          - options, service: the `load` command
- run: a run; closed and open loop      - connections: endpoint, connection, pool
- conversations: what is sent, checked  - stats: counters and the latency histogram
- usage: CPU and memory from /proc      - report: the result as values, text and JSON

The way of a message:

1. `run.LoadRun.run` opens the connections of the plan through `connections.ConnectionPool.open`.
2. A closed loop sends `depth` messages on each connection (`LoadRun._start_sending`); an open loop
   sends on the connections in turn when `run.Schedule` says so (`LoadRun._send_due`).
3. `stats.MessageStats.take` counts the message as in flight; `connections.LoadConnection.send`
   notes its start and writes what `conversations.Conversation.messages` returns.
4. `LoadConnection.dataReceived` passes the answer to `Conversation.feed`, which raises
   MismatchError if it is wrong, and records the latency in `stats.Histogram`.
5. A closed loop sends the next message; `MessageStats.add_answered` counts the answer.
6. At the end `LoadRun.run` makes the `report.Report`; `service.ReportOutput` writes it.
"""

from evserve.load.plan import Plan
from evserve.load.report import Report
from evserve.load.run import LoadRun, run_load


__all__ = ["LoadRun", "Plan", "Report", "run_load"]
