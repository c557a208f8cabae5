"""Clients that put, delete and bury until their server is killed, and what they were promised."""

import threading

from attrs import Factory, define


WORKERS = 4


@define(eq=False)
class Ledger:
    """What the clients know: by id, what they were promised, and what is uncertain."""

    alive: dict = Factory(dict)  # id -> body
    deleted: set = Factory(set)
    buried: set = Factory(set)
    unsure: set = Factory(set)  # asked to be deleted or buried, and no answer came
    bodies: set = Factory(set)  # all that was ever sent
    promises: int = 0
    changed: threading.Condition = Factory(threading.Condition)

    def put(self, event_id, body):
        with self.changed:
            if event_id not in self.deleted:  # another worker was faster
                self.alive[event_id] = body
            self._promised()

    def delete(self, event_id):
        with self.changed:
            self.deleted.add(event_id)
            self.alive.pop(event_id, None)
            self._promised()

    def bury(self, event_id):
        with self.changed:
            self.buried.add(event_id)
            self._promised()

    def _promised(self):
        self.promises += 1
        self.changed.notify_all()

    def wait_for(self, promises):
        """Wait until so many promises were given, from the first on."""
        with self.changed:
            while self.promises < promises:
                if not self.changed.wait(120):
                    raise AssertionError(f"no promise for two minutes after {self.promises}")


def load_then_kill(server, ledger, promises, name):
    """Put load on the server until it has given so many more promises, then kill -9 it."""
    target = ledger.promises + promises
    workers = [
        threading.Thread(target=work, args=(server, ledger, f"{name}.{number}"))
        for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    try:
        ledger.wait_for(target)
    finally:
        server.kill()
        for worker in workers:
            worker.join()


def work(server, ledger, name):
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
                ledger.put(event_id, body)
                if number % 3 == 0:
                    continue
                words, _ = client.ask(b"reserve-with-timeout 0")
                if words[0] != b"RESERVED":
                    continue
                pending = int(words[1])
                if number % 3 == 1:
                    client.ask(b"delete %d" % pending)
                    ledger.delete(pending)
                else:
                    client.ask(b"bury %d 7" % pending)
                    ledger.bury(pending)
                pending = None
    except (ConnectionError, TimeoutError, IndexError):
        if pending is not None:
            ledger.unsure.add(pending)
