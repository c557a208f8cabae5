"""kill -9 under load, again and again: no acknowledged put is lost, no deleted event is back."""

import os
import random
import threading
import time
from pathlib import Path

from attrs import Factory, define
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.queue_server import QueueServer


# In each of LANES, side by side, each with a store of its own. CI does them all once, and fewer
# when it runs the same tests again in another way.
ROUNDS = int(os.environ.get("EVSERVE_CRASH_ROUNDS", "25"))
LANES = 2
WORKERS = 4


@define(eq=False)
class Ledger:
    """What the clients know: by id, what they were promised, and what is uncertain."""

    alive: dict = Factory(dict)  # id -> body
    deleted: set = Factory(set)
    buried: set = Factory(set)
    unsure: set = Factory(set)  # asked to be deleted or buried, and no answer came
    bodies: set = Factory(set)  # all that was ever sent


class CrashTests(SynchronousTestCase):
    def test_kill_at_any_moment(self):
        failures = []
        folder = Path(self.mktemp())

        def lane(number):
            try:
                self.lane(folder / f"queue{number}.db", random.Random(number))
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=lane, args=(number,)) for number in range(LANES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def lane(self, path, chance):
        ledger = Ledger()
        for round_number in range(ROUNDS + 1):
            server = QueueServer(self, "--store", path)
            self.check(server, ledger)
            if round_number == ROUNDS:
                self.check_bodies(server, ledger)
            else:
                self.load(server, ledger, round_number, chance)

    def load(self, server, ledger, round_number, chance):
        lock = threading.Lock()
        workers = [
            threading.Thread(target=work, args=(server, ledger, lock, f"{round_number}.{number}"))
            for number in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        time.sleep(chance.uniform(0.02, 0.2))
        server.kill()
        for worker in workers:
            worker.join()

    def check(self, server, ledger):
        with server.connect() as client:
            # Whatever nobody knows of is decided now.
            for event_id in list(ledger.unsure):
                words, _ = client.ask(b"stats-job %d" % event_id)
                if words[0] == b"NOT_FOUND":
                    ledger.alive.pop(event_id, None)
            ledger.unsure.clear()
            for event_id, body in ledger.alive.items():
                self.assertEqual(client.ask(b"peek %d" % event_id)[1], body, event_id)
            for event_id in ledger.deleted:
                self.assertEqual(client.word(b"peek %d" % event_id), b"NOT_FOUND", event_id)
            for event_id in ledger.buried & ledger.alive.keys():
                stats = client.stats(b"stats-job %d" % event_id)
                self.assertEqual((stats[b"state"], stats[b"pri"]), (b"buried", b"7"))

    def check_bodies(self, server, ledger):
        """At the end, what is in the queue is what was put, each once."""
        seen = []
        with server.connect() as client:
            client.ask(b"kick 1000000")
            while (reply := client.ask(b"reserve-with-timeout 0"))[0][0] == b"RESERVED":
                seen.append(reply[1])
                client.ask(b"delete " + reply[0][1])
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual(set(ledger.alive.values()), set(seen))
        self.assertLessEqual(set(seen), ledger.bodies)
        self.assertGreater(len(ledger.deleted), 50)


def work(server, ledger, lock, name):
    """Put, reserve, then delete or bury, until the server is gone."""
    number = 0
    pending = None
    try:
        with server.connect() as client:
            while True:
                number += 1
                body = b"%s.%d" % (name.encode(), number)
                ledger.bodies.add(body)
                event_id = client.put(body, ttr=1000)
                with lock:
                    if event_id not in ledger.deleted:  # another worker was faster
                        ledger.alive[event_id] = body
                if number % 3 == 0:
                    continue
                words, _ = client.ask(b"reserve-with-timeout 0")
                if words[0] != b"RESERVED":
                    continue
                pending = int(words[1])
                if number % 3 == 1:
                    client.ask(b"delete %d" % pending)
                    with lock:
                        ledger.deleted.add(pending)
                        ledger.alive.pop(pending, None)
                else:
                    client.ask(b"bury %d 7" % pending)
                    with lock:
                        ledger.buried.add(pending)
                pending = None
    except (ConnectionError, TimeoutError, IndexError):
        if pending is not None:
            ledger.unsure.add(pending)
