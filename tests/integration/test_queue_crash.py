"""kill -9 under load, again and again: no acknowledged put is lost, no deleted event is back."""

import os
import random
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.queue_load import Ledger, load_then_kill
from tests.integration.queue_server import QueueServer


# In each of LANES, side by side, each with a store of its own. CI does them all once, and fewer
# when it runs the same tests again in another way.
ROUNDS = int(os.environ.get("EVSERVE_CRASH_ROUNDS", "25"))
LANES = 2


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
                load_then_kill(server, ledger, chance.randint(1, 120), f"{round_number}")

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
