"""dramatiq on Redis: its worker with a thread per client, and a thread per producer."""

import time
from threading import Semaphore, Thread

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Retries, ShutdownNotifications, TimeLimit

from benchmarks.queue.job import Job, Tally, sent_at


def _declare(job: Job) -> RedisBroker:
    wanted = [AgeLimit(), TimeLimit(), ShutdownNotifications(), Retries()]
    connections = max(100, 4 * job.clients)  # more than the client library's default of 100
    client = redis.Redis.from_url(job.url, max_connections=connections)
    broker = RedisBroker(client=client, middleware=wanted)
    dramatiq.set_broker(broker)
    return broker


def fill(job: Job) -> None:
    """Put the backlog."""
    _declare(job)
    bench = dramatiq.actor(print, actor_name="bench")
    for _ in range(job.backlog):
        bench.send(job.body().decode())


def run(job: Job, tally: Tally) -> None:
    """Load it."""
    broker = _declare(job)
    window = Semaphore(job.window)
    cycle = job.what == "cycle"
    since = [0.0]

    def handle(body: str) -> None:
        if cycle:
            tally.done(sent_at(body.encode()))
            window.release()
        else:
            since[0] = tally.done(since[0])

    bench = dramatiq.actor(handle, actor_name="bench")

    def put() -> None:
        while True:
            if cycle:
                window.acquire()
            begun = time.monotonic()
            bench.send(job.body().decode())
            if not cycle:
                tally.done(begun)

    tally.wait_for_start()
    since[0] = time.monotonic()
    threads = [
        Thread(target=put, daemon=True) for _ in range(job.clients if job.what != "take" else 0)
    ]
    for thread in threads:
        thread.start()
    if job.what != "put":
        dramatiq.Worker(broker, worker_threads=job.clients).start()
    time.sleep(3600)  # the clocks end the process
