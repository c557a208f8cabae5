"""`evserve events` on queues that servers and files hold."""

import json
import subprocess
import sys

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from evserve.events import ERRORS, State
from evserve.events.sync import open_queue
from tests.integration.beanstalkd import start_beanstalkd
from tests.integration.postgres import fresh_database
from tests.integration.processes import TWISTD, on_chosen_reactor
from tests.integration.queue_server import Connection, QueueServer


def command(*words):
    return on_chosen_reactor([sys.executable, TWISTD, "-n", "evserve", "events", *words])


def events(*words, stdin=b""):
    """Run `evserve events`; return its status, standard output and standard error."""
    done = subprocess.run(command(*words), input=stdin, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def all_bodies(connection):
    """Take every event of all tubes, and return their bodies in their order."""
    found = []
    while (reply := connection.ask(b"reserve-with-timeout 0"))[0][0] == b"RESERVED":
        found.append(reply[1])
        connection.ask(b"delete " + reply[0][1])
    return found


class EventsCommandTests(SynchronousTestCase):
    def test_a_body_is_printed_as_it_was_put(self):
        url = f"--queue=beanstalk://127.0.0.1:{QueueServer(self).port}"
        body = b"\x00\xff\x1b[31m\r\n" * 1000
        self.assertEqual(events(url, "put", "mail", "-", stdin=body)[1], b"event 1 (mail)\n")
        status, out, _ = events("peek", "mail", "--raw", url)  # options stand anywhere
        self.assertEqual((status, out), (0, body))

    def test_a_mistake_is_one_line_and_status_1(self):
        path = self.mktemp()
        server = QueueServer(self, "--store", path)
        for words, problem in (
            (["--queue=nonsense"], "'nonsense' is not a queue URL"),
            ([f"--queue=sqlite:{path}"], "in use"),
            ([f"--queue=beanstalk://127.0.0.1:{server.port}", "peek", "mail"], "no events"),
            ([f"--queue=beanstalk://127.0.0.1:{server.port}", "kick"], "expected kick TYPE"),
        ):
            status, out, err = events(*words)
            mine = [line for line in err.splitlines() if line.startswith("evserve: ")]
            self.assertEqual((status, out, len(mine)), (1, b"", 1), err)
            self.assertIn(problem, mine[0])
            self.assertNotIn("Traceback", err)

    def test_a_file_is_moved_to_a_server(self):
        path = f"sqlite:{self.mktemp()}"
        server = QueueServer(self)
        fill = QueueServer(self, "--store", path.removeprefix("sqlite:"))
        with fill.connect() as connection:
            for number in range(300):
                connection.put(b"%d" % number)
        fill.stop()
        url = f"beanstalk://127.0.0.1:{server.port}"
        status, out, err = events("move", "--from", path, "--to", url, "--json")
        self.assertEqual(status, 0, err)
        self.assertEqual(
            json.loads(out), {"type": "default", "moved": 300, "delayed": 0, "buried": 0}
        )
        with server.connect() as connection:
            self.assertEqual(all_bodies(connection), [b"%d" % each for each in range(300)])

    def test_a_server_is_moved_to_postgres(self):
        source, target = f"beanstalk://127.0.0.1:{QueueServer(self).port}", fresh_database()
        with open_queue(source) as queue:
            for number in range(150):
                queue.put("jobs", b"%d" % number)
            queue.put("mail", b"later", delay=3000)
            queue.bury(queue.reserve_event(queue.put("sms", b"", ttr=7)), "no such number")
        status, _, err = events("move", "--from", source, "--to", target)
        self.assertEqual(status, 0, err)
        with open_queue(target) as queue:
            moved = [event.body for event in queue.reserve_many(["jobs"], 1000)]
            self.assertEqual(moved, [b"%d" % number for number in range(150)])
            self.assertGreater(queue.peek("mail", State.DELAYED).left, 2000)
            buried, [record] = queue.peek("sms", State.BURIED), queue.reserve_many([ERRORS], 9)
        said = json.loads(record.body)
        self.assertEqual((said["id"], said["reason"]), (buried.event.id, "no such number"))
        self.assertEqual(buried.event.ttr, 7)
        [listed] = events("--queue", target, "--json", "list", "sms")[1].splitlines()
        self.assertEqual(json.loads(listed)["buried"], 1)


class KilledMoveTests(TestCase):
    """kill -9 in the middle of a move, which is then started again."""

    count = 1500

    def setUp(self):
        self.source = QueueServer(self)
        self.bodies = [b"%d" % number for number in range(self.count)]
        with self.source.connect() as connection:
            for body in self.bodies:
                connection.put(body)

    def move(self, port, *words):
        urls = ("--from", f"beanstalk://127.0.0.1:{self.source.port}")
        urls += ("--to", f"beanstalk://127.0.0.1:{port}")
        return command("move", *urls, *words)

    def kill_at(self, port, ready):
        """Start the move and kill it when the target has so many events."""
        process = subprocess.Popen(
            self.move(port, "--rate=300"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with Connection(port) as connection:
            while int(connection.stats(b"stats-tube default")[b"current-jobs-ready"]) < ready:
                self.assertIsNone(process.poll(), "it ended before it was killed")
        process.kill()
        process.wait()

    def finish(self, port):
        for ready in (100, 300):
            self.kill_at(port, ready)
        done = subprocess.run(self.move(port), capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        with self.source.connect() as connection:
            self.assertEqual(all_bodies(connection), [])
        with Connection(port) as connection:
            return all_bodies(connection)

    def test_nothing_is_lost_and_nothing_comes_twice(self):
        found = self.finish(QueueServer(self).port)
        self.assertEqual(sorted(found), sorted(self.bodies))

    async def test_nothing_is_lost_where_the_target_has_no_keys(self):
        from twisted.internet import reactor

        port: Deferred = start_beanstalkd(self, reactor).port
        found = self.finish(await port)
        self.assertEqual({*found}, {*self.bodies})
