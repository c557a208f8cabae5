"""The format of logs, their place, and the lines that are dropped."""

import io
import json
import sys

from twisted.logger import Logger, LogLevel, PredicateResult
from twisted.plugin import getCache
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.logs import drop_noise, file_observer, format_event, make_observer


def logged(observe, text, *, namespace="evserve.host", level="info", **values):
    getattr(Logger(namespace=namespace, observer=observe), level)(text, **values)


class FormatEventTests(SynchronousTestCase):
    def text(self, *words, **how):
        events = []
        logged(events.append, *words, **how)
        return format_event(events[0])

    def test_a_line_is_time_and_message(self):
        self.assertRegex(
            self.text("{name}: hello", name="echo"),
            r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d echo: hello\n$",
        )

    def test_a_warning_of_another_package_shows_its_namespace(self):
        self.assertRegex(self.text("x", namespace="other", level="warn"), r" \[other\] x\n$")
        self.assertRegex(self.text("x", namespace="other"), r"\d\d x\n$")

    def test_an_event_without_text_is_no_line(self):
        self.assertEqual(self.text(None), "")

    def test_json_is_one_object_a_line(self):
        stream = io.StringIO()
        logged(file_observer(stream, "json"), "two\nlines {n}", n=1)
        (line,) = stream.getvalue().splitlines()
        self.assertEqual(json.loads(line)["log_format"], "two\nlines {n}")


class NoiseTests(SynchronousTestCase):
    def dropped(self, text, **how):
        events = []
        logged(events.append, text, **how)
        return drop_noise(events[0]) is PredicateResult.no

    def test_noise_is_dropped(self):
        for text in (
            "evserve limiter starting on 9000",
            "evserve limiter (TLS) starting on 9000",
            "evserve limiter (PROXY) (PROXY) starting on 9000",
            "evserve datagrams starting on 9000",
            "(TCP Port 9000 Closed)",
            "Starting factory <Factory>",
            "Main loop terminated.",
            "Unable to write to plugin cache /x: error number 30",
        ):
            self.assertTrue(self.dropped(text, namespace="log_legacy"), text)
        self.assertTrue(self.dropped("x", namespace="twisted.scripts._twistd_unix.UnixAppLogger"))

    def test_all_other_lines_are_kept(self):
        for text in ("Site starting on 8080", "echo: listening on x", ""):
            self.assertFalse(self.dropped(text))

    def test_tracebacks_of_twistd_about_broken_plugin_files_are_dropped(self):
        for key in ("log_failure", "failure"):
            self.assertTrue(self.dropped("x", **{key: self.failure_in_discovery()}))
            self.assertFalse(self.dropped("x", **{key: Failure(ValueError())}))

    def failure_in_discovery(self):
        try:
            getCache(None)
        except AttributeError:
            return Failure()
        raise AssertionError


class MakeObserverTests(SynchronousTestCase):
    def setUp(self):
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def write(self, twistd, log_format="text"):
        made = make_observer(twistd, log_format)
        if made is None:
            return False
        made({"log_format": "x", "log_time": 0.0, "log_level": LogLevel.info})
        return True

    def test_in_the_foreground_it_is_standard_error(self):
        self.assertTrue(self.write({"nodaemon": 1}))
        self.assertTrue(self.err.getvalue().endswith(" x\n"))

    def test_text_to_any_other_place_is_left_to_twistd(self):
        for twistd in ({}, {"nodaemon": 1, "logfile": "x"}, {"logger": "x"}, {"syslog": 1}):
            self.assertFalse(self.write(twistd))

    def test_json_goes_where_twistd_was_told(self):
        self.assertTrue(self.write({"nodaemon": 1, "logfile": "-"}, "json"))
        self.assertTrue(json.loads(self.out.getvalue()))
        path = self.mktemp()
        self.assertFalse(self.write({"syslog": 1}, "json"))
        self.make_folder_of(path)
        self.assertTrue(self.write({"logfile": path}, "json"))
        with open(path) as log:  # noqa: PTH123 - the shortest way
            self.assertTrue(json.load(log))

    def make_folder_of(self, path):
        from pathlib import Path

        Path(path).parent.mkdir(parents=True, exist_ok=True)
