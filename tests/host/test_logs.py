"""The format of logs, their place, and the lines that are dropped."""

import io
import json
import logging
import os
import sys
from pathlib import Path

from twisted.logger import Logger, LogLevel, STDLibLogObserver, globalLogPublisher
from twisted.plugin import getCache
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.logs import (
    LogFile,
    file_observer,
    format_event,
    is_noise,
    make_observer,
    open_log_file,
    take_records,
)


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


class FormatJSONTests(SynchronousTestCase):
    def json(self, *words, **how):
        stream = io.StringIO()
        logged(file_observer(stream, "json"), *words, **how)
        (line,) = stream.getvalue().splitlines()
        return json.loads(line)

    def test_it_is_one_object_a_line(self):
        self.assertEqual(self.json("two\nlines {n}", n=1)["log_format"], "two\nlines {n}")

    def test_the_message_is_what_the_text_format_shows(self):
        line = self.json("{name}: {message}", name="echo", message=b"x", level="warn")
        self.assertEqual(line["message"], "echo: b'x'")

    def test_the_message_of_a_failure_has_its_traceback(self):
        message = self.json("x", log_failure=Failure(ValueError("no luck")))["message"]
        self.assertRegex(message, r"(?s)^x\nTraceback .*no luck")

    def test_a_message_by_the_old_api_is_a_text_too(self):
        stream = io.StringIO()
        observer = file_observer(stream, "json")
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        log.msg("a", "b")
        self.assertEqual(json.loads(stream.getvalue())["message"], "a b")

    def test_an_event_with_values_that_are_no_json_has_its_message(self):
        endless = []
        endless.append(endless)
        line = self.json("{endless} {a[x]}", endless=endless, a={"x": 1})
        self.assertEqual(line["message"], "[[...]] 1")
        self.assertEqual(line["log_namespace"], "evserve.host")


class RecordTests(SynchronousTestCase):
    """What is logged by the standard library's `logging`."""

    def setUp(self):
        self.patch(logging, "lastResort", None)
        take_records()
        self.logger = logging.Logger("a.library")  # noqa: LOG001 - pytest's has a handler
        self.events = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def test_a_record_is_an_event_with_its_logger_as_the_namespace(self):
        self.logger.warning("%d of {a}", 3)
        (event,) = self.events
        self.assertRegex(format_event(event), r"\d\d \[a\.library\] 3 of \{a\}\n$")

    def test_its_level_is_the_next_lower_one_of_twisted(self):
        for level in (20, 29, 30, 39, 40, 50, 60):
            self.logger.log(level, "x")
        levels = [event["log_level"].name for event in self.events]
        self.assertEqual(levels, ["warn", "warn", "error", "critical", "critical"])

    def test_an_exception_is_a_failure(self):
        self.logger.error("none", exc_info=True)  # noqa: LOG014 - what is tested
        self.logger.error("x", exc_info=ValueError("no luck"), stack_info=True)
        none, event = self.events
        self.assertNotIn("log_failure", none)
        self.assertRegex(format_event(event), r"(?s) x\nStack .*\nTraceback .*no luck")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_an_event_that_becomes_a_record_does_not_become_an_event_again(self):
        observer = STDLibLogObserver("a.library")
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.logger.warning("x")
        self.logger.warning("y")
        self.assertEqual([event["text"] for event in self.events], ["x", "y"])

    def test_a_handler_of_the_program_takes_its_records(self):
        stream = io.StringIO()
        self.logger.addHandler(logging.StreamHandler(stream))
        self.logger.warning("x")
        self.assertEqual((stream.getvalue(), self.events), ("x\n", []))


class LinesTests(SynchronousTestCase):
    """Many lines at once are printed as their events would be."""

    rows = ((0.25, "a"), (0.5, 'b "\\ @line@ @time@'), (1.0, ""), (61.5, "ü"), (61.75, "a"))

    def check(self, make):
        event = {"log_format": "{log_io}", "log_level": LogLevel.info, "log_source": None}
        written = []
        for each in ("events", "lines"):
            stream = io.StringIO()
            observer = make(stream)
            if each == "lines":
                observer.observe_lines(event, self.rows)
            else:
                for at, line in self.rows:
                    observer({"log_io": line, **event, "log_time": at})
            written.append(stream.getvalue())
        self.assertEqual(written[0], written[1])
        return written[0]

    def test_text(self):
        self.assertEqual(self.check(lambda stream: file_observer(stream, "text")).count("\n"), 4)

    def test_json(self):
        text = self.check(lambda stream: file_observer(stream, "json"))
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertEqual([(each["log_time"], each["message"]) for each in lines], list(self.rows))

    def test_on_a_terminal(self):
        def make(stream):
            stream.isatty = lambda: True
            self.patch(sys, "stderr", stream)
            return file_observer(stream, "text")

        self.patch(os, "environ", {"TERM": "xterm"})
        self.assertIn("\x1b[K\n", self.check(make))

    def test_in_the_text_of_twistd(self):
        path = Path(self.mktemp())

        def make(stream):
            path.unlink(missing_ok=True)
            twistd = {"nodaemon": 1, "logfile": str(path)}
            stream.getvalue = path.read_text
            return make_observer(twistd, "text", open_log_file(twistd))

        self.assertIn("[-#info] a\n", self.check(make))


class NoiseTests(SynchronousTestCase):
    def dropped(self, text, **how):
        events = []
        logged(events.append, text, **how)
        return is_noise(events[0])

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
        made = make_observer(twistd, log_format, open_log_file(twistd))
        if made is None:
            return False
        made({"log_format": "x", "log_time": 0.0, "log_level": LogLevel.info})
        return True

    def test_in_the_foreground_it_is_standard_error(self):
        self.assertTrue(self.write({"nodaemon": 1}))
        self.assertTrue(self.err.getvalue().endswith(" x\n"))

    def test_what_is_twisteds_is_left_to_it(self):
        for twistd in (
            {},  # `twist`
            {"nodaemon": 1, "logfile": "-"},
            {"nodaemon": 1, "logger": "x"},
            {"nodaemon": 0, "syslog": 1},
        ):
            self.assertFalse(self.write(twistd))
        self.assertFalse(self.write({"nodaemon": 0, "syslog": 1}, "json"))

    def test_json_to_standard_output_if_twistd_was_told_so(self):
        self.assertTrue(self.write({"nodaemon": 1, "logfile": "-"}, "json"))
        self.assertTrue(json.loads(self.out.getvalue()))

    def test_a_file_has_either_format(self):
        path = new_path(self)
        self.assertTrue(self.write({"nodaemon": 0, "logfile": str(path)}))
        self.assertRegex(path.read_text(), r"^1970-01-01T.* \[-#info\] x\n$")
        path.unlink()
        self.assertTrue(self.write({"nodaemon": 1, "logfile": str(path)}, "json"))
        self.assertEqual(json.loads(path.read_text())["message"], "x")


def new_path(test):
    path = Path(test.mktemp())
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class LogFileTests(SynchronousTestCase):
    def setUp(self):
        self.path = new_path(self)
        self.path.write_text("before\n")
        self.file = LogFile(str(self.path))
        self.file.write("one\n")

    def test_it_is_continued(self):
        self.assertEqual(self.path.read_text(), "before\none\n")

    def test_it_is_one_file_however_long(self):
        for _ in range(3):
            self.file.write("x" * 1_000_000)
        self.assertEqual(self.path.stat().st_size, 3_000_011)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_a_file_that_was_moved_is_written_until_it_is_reopened(self):
        moved = self.path.rename(f"{self.path}.1")
        self.file.write("two\n")
        self.file.reopen()
        self.file.write("three\n")
        self.assertEqual(moved.read_text(), "before\none\ntwo\n")
        self.assertEqual(self.path.read_text(), "three\n")

    def test_a_new_file_has_no_more_permissions_than_the_old_one(self):
        self.path.chmod(0o600)
        self.path.unlink()
        self.file.reopen()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_a_file_that_was_truncated_grows_from_its_start(self):
        os.truncate(self.path, 0)
        self.file.write("two\n")
        self.assertEqual(self.path.read_bytes(), b"two\n")

    def test_if_it_cannot_be_reopened_it_is_written_nevertheless(self):
        moved = self.path.rename(f"{self.path}.1")
        self.path.mkdir()
        self.assertRaises(IsADirectoryError, self.file.reopen)
        self.file.write("two\n")
        self.assertEqual(moved.read_text(), "before\none\ntwo\n")

    def test_the_path_is_that_of_the_folder_at_the_start(self):
        file = LogFile("relative.log")
        self.addCleanup(Path("relative.log").unlink)
        self.assertEqual(file.path, Path.cwd() / "relative.log")

    def test_any_text_can_be_written(self):
        self.file.write("\udcff\n")
        self.assertTrue(self.path.read_text().endswith("\\udcff\n"))
