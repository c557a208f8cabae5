"""The options and the log of a worker."""

from io import StringIO

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.logs import file_observer
from evserve.host.workers.worker import WorkerLogObserver, set_worker_options


class WorkerOptionsTests(SynchronousTestCase):
    def test_a_worker_of_a_daemon_stays_in_the_foreground_and_writes_no_file(self):
        twistd = {"nodaemon": False, "pidfile": "twistd.pid", "uid": 5, "logfile": "x"}
        options = {"log-format": "json"}
        set_worker_options(twistd, options)
        self.assertTrue(twistd["nodaemon"])
        self.assertFalse(twistd["pidfile"] or twistd["uid"] or twistd["logfile"])
        self.assertEqual(options, {"log-format": "text"})

    def test_a_worker_on_a_terminal_keeps_the_log_format(self):
        options = {"log-format": "json"}
        set_worker_options({"nodaemon": True}, options)
        self.assertEqual(options, {"log-format": "json"})


class WorkerLogObserverTests(SynchronousTestCase):
    def setUp(self):
        self.events = []
        self.observer = WorkerLogObserver(self.events.append, 3)

    def observe(self, level, namespace, text="hello"):
        event = {"log_level": level, "log_namespace": namespace, "log_format": text}
        self.observer(event)
        return self.events

    def test_information_lines_of_the_host_are_dropped(self):
        self.assertEqual(self.observe(LogLevel.info, "evserve.host.application.RootService"), [])

    def test_information_lines_of_a_service_are_kept(self):
        self.assertEqual(len(self.observe(LogLevel.info, "evserve.echo")), 1)

    def test_a_warning_names_the_worker(self):
        (event,) = self.observe(LogLevel.warn, "evserve.host.connections")
        self.assertEqual(event["log_format"].format(**event), "worker 3: hello")

    def test_the_lines_of_an_access_log_are_printed_many_at_a_time(self):
        stream = StringIO()
        observer = WorkerLogObserver(file_observer(stream, "text"), 3)
        observer.observe_lines({"log_format": "{log_io}"}, [(0.0, "a"), (0.0, "b")])
        printed = [line.split()[-1] for line in stream.getvalue().splitlines()]
        self.assertEqual(printed, ["a", "b"])
        self.assertIsNone(self.observer.observe_lines)
