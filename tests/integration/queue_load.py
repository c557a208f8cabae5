"""Load on a server until it is killed, and a record of what it promised its clients."""

import threading

from attrs import Factory, define


WORKERS = 4


@define(eq=False)
class ClientRecord:
    """What the server promised its clients, by event id, and what is uncertain."""

    alive: dict = Factory(dict)  # id -> body
    deleted: set = Factory(set)
    buried: set = Factory(set)
    unsure: set = Factory(set)  # asked to be deleted or buried, and no answer came
    bodies: set = Factory(set)  # everything that was sent
    promises: int = 0
    changed: threading.Condition = Factory(threading.Condition)

    def put(self, event_id, body):
        with self.changed:
            if event_id not in self.deleted:  # another worker has reserved it already
                self.alive[event_id] = body
            self._count_promise()

    def delete(self, event_id):
        with self.changed:
            self.deleted.add(event_id)
            self.alive.pop(event_id, None)
            self._count_promise()

    def bury(self, event_id):
        with self.changed:
            self.buried.add(event_id)
            self._count_promise()

    def _count_promise(self):
        self.promises += 1
        self.changed.notify_all()

    def wait_for(self, promises):
        """Wait until the server has given `promises` promises in total."""
        with self.changed:
            while self.promises < promises:
                if not self.changed.wait(120):
                    raise AssertionError(f"no promise in two minutes after {self.promises}")


def load_then_kill(server, record, promises, name):
    """Put load on the server until it has given `promises` more, then kill -9 it."""
    target = record.promises + promises
    load(server, record, name, lambda: record.wait_for(target))


def load(server, record, name, meanwhile):
    """Put load on the server while `meanwhile` runs, then kill -9 it."""
    workers = [
        threading.Thread(target=work, args=(server, record, f"{name}.{number}"))
        for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    try:
        meanwhile()
    finally:
        server.kill()
        for worker in workers:
            worker.join()


def work(server, record, name):
    """Put, reserve, then delete or bury, until the connection is lost."""
    number = 0
    pending = None
    try:
        with server.connect() as client:
            while True:
                number += 1
                body = b"%s.%d" % (name.encode(), number)
                record.bodies.add(body)
                event_id = certain(client.put(body, ttr=1000))
                record.put(event_id, body)
                if number % 3 == 0:
                    continue
                words, _ = client.ask(b"reserve-with-timeout 0")
                if words[0] != b"RESERVED":
                    continue
                pending = int(words[1])
                deletes = number % 3 == 1
                command = b"delete %d" if deletes else b"bury %d 7"
                certain(client.word(command % pending))
                (record.delete if deletes else record.bury)(pending)
                pending = None
    except (ConnectionError, TimeoutError, IndexError):
        if pending is not None:
            record.unsure.add(pending)


def certain(reply):
    """Return a reply, unless it says that the outcome is unknown."""
    if reply == b"INTERNAL_ERROR":
        raise ConnectionError
    return reply


def check(test, server, record):
    """Check that the server has what it promised."""
    with server.connect() as client:
        # The server decides what was uncertain.
        for event_id in list(record.unsure):
            words, _ = client.ask(b"stats-job %d" % event_id)
            if words[0] == b"NOT_FOUND":
                record.alive.pop(event_id, None)
        record.unsure.clear()
        for event_id, body in record.alive.items():
            test.assertEqual(client.ask(b"peek %d" % event_id)[1], body, event_id)
        for event_id in record.deleted:
            test.assertEqual(client.word(b"peek %d" % event_id), b"NOT_FOUND", event_id)
        for event_id in record.buried & record.alive.keys():
            stats = client.stats(b"stats-job %d" % event_id)
            test.assertEqual((stats[b"state"], stats[b"pri"]), (b"buried", b"7"))


def check_bodies(test, server, record):
    """Check that the queue holds what was put, each event once."""
    seen = []
    with server.connect() as client:
        client.ask(b"kick 1000000")
        while (reply := client.ask(b"reserve-with-timeout 0"))[0][0] == b"RESERVED":
            seen.append(reply[1])
            client.ask(b"delete " + reply[0][1])
    test.assertEqual(len(seen), len(set(seen)))
    test.assertLessEqual(set(record.alive.values()), set(seen))
    test.assertLessEqual(set(seen), record.bodies)
    test.assertGreater(len(record.deleted), 20)
