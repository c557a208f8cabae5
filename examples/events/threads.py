"""A plain program with threads, no reactor in sight: it puts jobs and handles them itself.

    python threads.py 20
    python threads.py 20 beanstalk://127.0.0.1:11300

`evserve.events.sync` is the queue for Flask, Django and scripts: any thread may use it.
"""

import sys
import threading

from evserve.events.sync import QueueError, SyncQueue, open_queue


def work(queue: SyncQueue, name: str) -> None:
    """Do jobs until none has come for a second."""
    while (event := queue.reserve(["jobs"], timeout=1)) is not None:
        print(f"{name} did {event.body.decode()}\n", end="")
        queue.ack(event)


def main(count: str = "20", url: str = "memory:") -> None:
    """Let four threads share the jobs that this one puts."""
    try:
        with open_queue(url) as queue:
            names = ("anna", "ben", "cleo", "dan")
            workers = [threading.Thread(target=work, args=(queue, name)) for name in names]
            for worker in workers:
                worker.start()
            for number in range(int(count)):
                queue.put("jobs", b"job %d" % number)
            for worker in workers:
                worker.join()
    except QueueError as error:
        raise SystemExit(f"threads: {error}") from error


if __name__ == "__main__":
    main(*sys.argv[1:])
