"""What a worker is told, and what it takes over from its parent."""

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.assignment import Assignment, become_worker, take
from evserve.host.workers.logs import WorkerObserver
from evserve.host.workers.sharing import adoptable


class AssignmentTests(SynchronousTestCase):
    def test_it_survives_the_environment_and_is_taken_out(self):
        assignment = Assignment(2, {("echo", "tcp:0"): 5, ("echo", "unix:a b"): 6})
        environ = assignment.environment({"HOME": "/"})
        self.assertEqual(take(environ), assignment)
        self.assertEqual(environ, {"HOME": "/"})
        self.assertIsNone(take(environ))

    def test_what_systemd_says_to_the_parent_is_not_for_workers(self):
        told = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "LANG": "C"}
        environ = Assignment(1, {}).environment(told)
        take(environ)
        self.assertEqual(environ, {"LANG": "C"})

    def test_a_worker_of_a_daemon_stays_in_the_foreground_and_writes_no_file(self):
        twistd = {"nodaemon": False, "pidfile": "twistd.pid", "uid": 5, "logfile": "x"}
        options = {"log-format": "json"}
        become_worker(twistd, options)
        self.assertTrue(twistd["nodaemon"])
        self.assertFalse(twistd["pidfile"] or twistd["uid"] or twistd["logfile"])
        self.assertEqual(options, {"log-format": "text"})

    def test_a_worker_on_a_terminal_keeps_the_log_format(self):
        options = {"log-format": "json"}
        become_worker({"nodaemon": True}, options)
        self.assertEqual(options, {"log-format": "json"})


class AdoptableTests(SynchronousTestCase):
    def test_only_what_systemd_would_have_passed_is_replaced(self):
        table = {
            "tcp:0": "tcp:0",
            "systemd:domain=INET:index=0": "tcp:0",
            "haproxy:systemd:domain=UNIX:name=a": "haproxy:tcp:0",
            "unix:/run/systemd": "unix:/run/systemd",
        }
        for written, expected in table.items():
            self.assertEqual(adoptable(written), expected)


class WorkerObserverTests(SynchronousTestCase):
    def setUp(self):
        self.events = []
        self.observer = WorkerObserver(self.events.append, 3)

    def observe(self, level, namespace, text="hello"):
        event = {"log_level": level, "log_namespace": namespace, "log_format": text}
        self.observer(event)
        return self.events

    def test_the_hosts_small_talk_is_left_to_the_parent(self):
        self.assertEqual(self.observe(LogLevel.info, "evserve.host.application.RootService"), [])

    def test_a_service_may_talk(self):
        self.assertEqual(len(self.observe(LogLevel.info, "evserve.echo")), 1)

    def test_a_warning_says_whose_it_is(self):
        (event,) = self.observe(LogLevel.warn, "evserve.host.connections")
        self.assertEqual(event["log_format"].format(**event), "worker 3: hello")
