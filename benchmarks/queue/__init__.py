"""evserve's queues beside others under the same load: `python -m benchmarks.queue`.

    python -m benchmarks.queue                 the server beside beanstalkd
    python -m benchmarks.queue engines         sqlite:, beanstalk:// and postgresql://
    python -m benchmarks.queue postgres        the engine postgresql:// beside its peers
    python -m benchmarks.queue scaling         how its cost grows
    python -m benchmarks.queue simulation      a model of that, and the model's errors

beanstalkd.py   the first table; servers.py and load.c start and load its servers
engines.py      the second one, with what it stores to
postgres.py     the third one: what is measured, the goals
scaling.py      the fourth one
simulation.py   the fifth one: a model of group commit as a discrete-event simulation
systems.py      the engines and libraries that client processes drive, and what they need
measure.py      runs a system in processes, and takes its rate, latencies and CPU
report.py       medians, ratios, tables
job.py          what a client process is told and answers
client.py       a client process; with_*.py drive one system each
cluster.py      a Postgres cluster from Debian's binaries; redis_server.py likewise

The way of one measurement: `measure.take_turns` asks the cluster for an empty database, starts a
client that installs and fills the system's tables, then the clients that load it; they say when
they are ready, are told when the measurement begins and ends, and print what they did in between.
"""
