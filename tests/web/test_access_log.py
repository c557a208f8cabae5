"""The gathered access log is the one that Twisted writes."""

import io
import re
from pathlib import Path

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    Logger,
    LogPublisher,
    eventAsText,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python import log
from twisted.python.logfile import DailyLogFile, LogFile
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import combinedLogFormatter, proxiedLogFormatter
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from twisted.web.test.requesthelper import DummyChannel

from evserve.web import access_log, log_lines
from evserve.web.access_log import combined_line, gather_log
from evserve.web.log_lines import DELAY, MOST_WAITING


STAMP = "[28/Nov/2026:07:15:02 +0000]"


class Kept(io.StringIO):
    """A file whose text is there after it was closed."""

    def close(self):
        pass


def make_request(site=None, cls=Request, **values):
    channel = DummyChannel()
    channel.site = site or channel.site
    request = cls(channel, False)
    request.client = IPv4Address("TCP", "192.0.2.1", 1234)
    request.method, request.uri, request.clientproto = b"GET", b"/a?b=c", b"HTTP/1.1"
    request.code, request.sentLength = 200, 10
    for name, value in values.items():
        if name in ("referer", "user_agent"):
            request.requestHeaders.setRawHeaders(name.replace("_", "-"), value)
        else:
            setattr(request, name, value)
    return request


class CombinedLineTests(SynchronousTestCase):
    def same(self, **values):
        request = make_request(**values)
        for _ in range(2):  # the second time from memory
            line = combined_line(STAMP, request)
            self.assertEqual(line, combinedLogFormatter(STAMP, request))
        return line

    def test_a_line(self):
        self.assertEqual(
            self.same(referer=[b"http://r/"], user_agent=[b"curl"]),
            f'"192.0.2.1" - - {STAMP} "GET /a?b=c HTTP/1.1" 200 10 "http://r/" "curl"',
        )

    def test_what_is_missing_is_a_dash(self):
        self.same(sentLength=0)
        self.same(referer=[b""], user_agent=[b""])
        self.same(client=UNIXAddress("/x"))
        self.same(client=HostnameAddress(b"a", 1))
        self.same(client=None)

    def test_the_last_of_several_values_counts(self):
        self.assertIn('"y" "b"', self.same(referer=[b"x", b"y"], user_agent=[b"a", b"b"]))

    def test_escapes(self):
        for value in (
            *(b'"', b"'", b"\"'", b"\\", b"\n", b"\t", b"\x00", b"\x1b[31m", b"\xff", b"a\\'b"),
            *(bytes(range(256)), b"x" * 5000, "ü".encode()),
        ):
            self.same(uri=b"/" + value)
            self.same(method=value)
            self.same(clientproto=value)
            self.same(user_agent=[value.replace(b"\n", b"")], referer=[value.replace(b"\n", b"")])

    def test_addresses(self):
        self.same(client=IPv6Address("TCP", "2001:db8::1", 1))
        self.same(client=IPv4Address("UDP", "192.0.2.7", 1))

    def test_memory_is_bounded(self):
        escaped = access_log._escaped
        for number in range(3000):
            self.same(uri=b"/%d" % number)
        self.assertLessEqual(len(escaped), 1024)
        self.same(uri=b"/" + b"x" * 1000)
        self.assertNotIn(b"/" + b"x" * 1000, escaped)


class Case(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.clock.advance(1_000_000_000)
        self.now = 1_000_000_000.25
        self.patch(log_lines, "time", lambda: self.now)

    def start(self, gathered=True, cls=Site, **values):
        site = cls(Resource(), reactor=self.clock, **values)
        if gathered:
            gather_log(site)
        site.doStart()
        self.addCleanup(lambda: site.numPorts and site.doStop())
        return site

    def log(self, site, *uris, **values):
        for uri in uris:
            site.log(make_request(site, uri=uri, **values))


class WaitingTests(Case):
    def setUp(self):
        super().setUp()
        self.site = self.start()
        self.site.logFile = self.file = Kept()

    def uris(self):
        return re.findall(r"GET (\S+)", self.file.getvalue())

    def test_lines_are_written_together_after_a_short_while(self):
        self.log(self.site, b"/1", b"/2")
        self.assertEqual(self.uris(), [])
        self.clock.advance(DELAY)
        self.assertEqual(self.uris(), ["/1", "/2"])
        self.assertEqual(self.file.getvalue().count("\n"), 2)
        self.log(self.site, b"/3")
        self.clock.advance(DELAY)
        self.assertEqual(self.uris(), ["/1", "/2", "/3"])

    def test_many_lines_are_written_at_once(self):
        self.log(self.site, *[b"/%d" % number for number in range(MOST_WAITING)])
        self.assertEqual(len(self.uris()), MOST_WAITING)

    def test_a_file_known_to_take_any_text_gets_one_write(self):
        class Counting(io.BytesIO):
            writes = 0

            def write(self, data):
                self.writes += 1
                return super().write(data)

        counting = Counting()
        self.site.logFile = io.TextIOWrapper(counting, write_through=True)
        self.log(self.site, b"/1", b"/2", b"/3")
        self.clock.advance(DELAY)
        self.assertEqual((counting.writes, counting.getvalue().count(b"\n")), (1, 3))

    def test_nothing_is_to_be_done_when_nothing_waits(self):
        self.log(self.site, b"/1")
        self.clock.advance(DELAY)
        left = [call for call in self.clock.getDelayedCalls() if call.getTime() - DELAY * 2 < 1e9]
        self.assertEqual(left, [])

    def test_the_end_of_the_factory_writes_what_waits(self):
        self.log(self.site, b"/1")
        self.site.doStop()
        self.assertEqual(self.uris(), ["/1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.log(self.site, b"/2")  # of a connection that is still open: as in stock, to nowhere
        self.assertEqual(self.uris(), ["/1"])

    def test_the_end_of_the_process_writes_what_waits(self):
        self.log(self.site, b"/1")
        log_lines.flush_all()
        self.assertEqual(self.uris(), ["/1"])
        self.assertEqual(log_lines._with_lines, set())

    def test_a_factory_starts_again(self):
        self.site.doStop()
        self.site.doStart()
        self.site.logFile = self.file
        self.log(self.site, b"/1")
        self.site.doStop()
        self.assertEqual(self.uris(), ["/1"])

    def test_lines_are_for_the_file_of_their_time(self):
        self.log(self.site, b"/1")
        self.site.logFile = other = io.StringIO()
        self.log(self.site, b"/2")
        self.clock.advance(DELAY)
        self.assertEqual(self.uris(), ["/1"])
        self.assertIn("/2", other.getvalue())

    def test_a_factory_that_is_not_started_writes_at_once(self):
        site = Site(Resource(), reactor=self.clock)
        gather_log(site)
        self.log(site, b"/0")
        site.logFile = self.file
        self.log(site, b"/1")
        self.assertEqual(self.uris(), ["/1"])

    def test_a_file_that_cannot_be_written_to_is_an_error_in_the_log(self):
        class Full(io.StringIO):
            def write(self, text):
                raise OSError(28, "no space")

        self.site.logFile = Full()
        self.log(self.site, b"/1", b"/2")
        self.clock.advance(DELAY)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.site.logFile = self.file
        self.log(self.site, b"/3")
        self.clock.advance(DELAY)
        self.assertEqual(self.uris(), ["/3"])

    def test_a_file_of_which_nothing_is_known_gets_each_line(self):
        class Lines:
            def __init__(self):
                self.got = []

            def write(self, text):
                self.got.append(text)

            def close(self):
                pass

        self.site.logFile = lines = Lines()
        self.log(self.site, b"/1", b"/2")
        self.clock.advance(DELAY)
        self.assertEqual([line[-1:] for line in lines.got], ["\n", "\n"])


class HooksTests(Case):
    def test_a_log_method_of_a_subclass_is_called(self):
        seen = []

        class Own(Site):
            def log(self, request):
                seen.append(request.uri)

        self.log(self.start(cls=Own), b"/1")
        self.assertEqual(seen, [b"/1"])

    def test_a_log_method_of_an_instance_is_called(self):
        seen = []
        for when in ("before", "after"):
            site = Site(Resource(), reactor=self.clock)
            if when == "after":
                gather_log(site)
            site.log = lambda request: seen.append(request.uri)
            gather_log(site)
            self.log(site, b"/1")
        self.assertEqual(seen, [b"/1"] * 2)

    def test_twice_is_as_once(self):
        site = Site(Resource(), reactor=self.clock)
        gather_log(site)
        method = site.log
        gather_log(site)
        self.assertEqual(site.log, method)

    def lines(self, cls=Request, **values):
        """Return what stock sites and gathering ones write for a request."""
        written = []
        for gathered in (False, True):
            site = self.start(gathered, **values)
            site.logFile = file = Kept()
            request = make_request(site, cls)
            request.requestHeaders.setRawHeaders(b"x-forwarded-for", [b"192.0.2.9, 192.0.2.8"])
            site.log(request)
            site.doStop()
            written.append(file.getvalue())
        self.assertEqual(written[0], written[1])
        return written[1]

    def test_formatters_are_honoured(self):
        self.assertIn("192.0.2.9", self.lines(logFormatter=proxiedLogFormatter))
        form = "{1.uri} {0}\nsecond line".format
        self.assertIn("second line\n", self.lines(logFormatter=form))

    def test_a_formatter_that_raises_does_so_for_its_request_alone(self):
        site = self.start(logFormatter=lambda *_: None)
        self.assertRaises(TypeError, self.log, site, b"/1")

    def test_methods_of_a_request_are_honoured(self):
        class Proxied(Request):
            def getClientAddress(self):
                return IPv4Address("TCP", "192.0.2.77", 1)

        class Named(Request):
            def getHeader(self, key):
                return b"named" if key == b"user-agent" else None

        self.assertIn("192.0.2.77", self.lines(cls=Proxied))
        self.assertIn("named", self.lines(cls=Named))

    def test_a_file_is_closed_after_its_last_line(self):
        path = self.mktemp()
        site = self.start(logPath=path)
        self.log(site, b"/1")
        site.doStop()
        self.assertIn("/1", Path(path).read_text())

    def test_log_files_rotate_at_the_same_lines(self):
        sizes = []
        for gathered, folder in ((False, self.mktemp()), (True, self.mktemp())):
            Path(folder).mkdir()

            class Rotating(Site):
                def _openLogFile(self, path):
                    return LogFile.fromFullPath(path, rotateLength=700)

            site = self.start(gathered, Rotating, logPath=f"{folder}/access.log")
            self.log(site, *[b"/%d" % number for number in range(40)])
            site.doStop()
            sizes.append({each.name: each.read_text() for each in Path(folder).iterdir()})
        self.assertEqual(sizes[0], sizes[1])
        self.assertGreater(len(sizes[0]), 3)

    def test_daily_log_files_rotate(self):
        folder = Path(self.mktemp())
        folder.mkdir()

        class Daily(Site):
            def _openLogFile(self, path):
                return DailyLogFile.fromFullPath(path)

        site = self.start(cls=Daily, logPath=str(folder / "access.log"))
        self.log(site, b"/1", b"/2")
        self.clock.advance(DELAY)
        site._logFile.lastDate = (2001, 1, 1)
        self.log(site, b"/3")
        site.doStop()
        self.assertEqual(
            {each.name: each.read_text().count("\n") for each in folder.iterdir()},
            {"access.log": 1, "access.log.2001_1_1": 2},
        )


class EventTests(Case):
    """Without a file the lines are log events."""

    def written(self, make_observer, gathered, formatter=None):
        """Return what an observer writes of a site's lines, with other events between."""
        stream = io.StringIO()
        publisher = LogPublisher(make_observer(stream))
        file = log.LoggingFile(Logger("twisted.python.log", observer=publisher))
        self.patch(log, "logfile", file)
        site = self.start(gathered, logFormatter=formatter)
        other = Logger("other", observer=publisher)
        other.info("before")
        self.log(site, b"/1", b"/2")
        self.clock.advance(DELAY)
        other.info("between")
        self.log(site, b'/3"@line@@time@')
        self.clock.advance(DELAY)
        self.log(site, b"/4")
        site.doStop()
        other.info("after")
        self.assertEqual(len(publisher._observers), 1)
        return stream.getvalue()

    def check(self, make_observer, **how):
        texts = [
            re.sub(
                r"\d{9,}\.\d+|\d\d\d\d-\d\d-\d\dT\S+",
                "T",
                self.written(make_observer, each, **how),
            )
            for each in (False, True)
        ]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(texts[0].count("/4") > 0, True)
        return texts[0]

    def test_the_log_of_twistd(self):
        text = self.check(textFileLogObserver)
        self.assertEqual(text.count("\n"), 7)
        self.assertIn('T [twisted.python.log#info] "192.0.2.1" - - ', text)

    def test_times_are_those_of_the_lines(self):
        stream = io.StringIO()
        self.patch(log_lines, "time", iter([0.5, 0.9, 1.0, 61.0]).__next__)
        publisher = LogPublisher(textFileLogObserver(stream))
        self.patch(log, "logfile", log.LoggingFile(Logger("x", observer=publisher)))
        self.log(self.start(), b"/1", b"/2", b"/3", b"/4")
        self.clock.advance(DELAY)
        self.assertEqual(re.findall(r":(\d\d:\d\d)[+-]", stream.getvalue()), [
            "00:00", "00:00", "00:01", "01:01",
        ])  # fmt: skip

    def test_formatters_that_write_several_lines_or_none(self):
        for form in ("{1.uri}\nmore".format, "".format, "\n".format):
            self.check(
                textFileLogObserver, formatter=lambda *words, form=form: form(*words) + "/4"
            )

    def test_other_observers_see_each_event(self):
        for make in (
            jsonFileLogObserver,
            lambda stream: textFileLogObserver(stream, timeFormat=None),
            lambda stream: FileLogObserver(stream, lambda event: f"{eventAsText(event)}|\n"),
            lambda stream: FilteringLogObserver(textFileLogObserver(stream), []),
        ):
            self.assertEqual(self.check(make).count("\n"), 7)

    def test_every_observer_sees_them_if_there_are_several(self):
        seen = []

        def make(stream):
            printer = textFileLogObserver(stream)

            def observe(event):
                seen.append(event["log_format"])
                printer(event)

            return observe

        self.check(make)
        self.assertEqual(seen.count("{log_io}"), 8)

    def test_the_event_is_that_of_stock(self):
        events = []
        for gathered in (False, True):
            publisher = LogPublisher(events.append)
            self.patch(log, "logfile", log.LoggingFile(Logger("x", observer=publisher)))
            site = self.start(gathered)
            self.log(site, b"/1")
            self.clock.advance(DELAY)
        for event in events:
            self.assertIsInstance(event.pop("log_time"), float)
            event.pop("log_logger")
        self.assertEqual(events[0], events[1])

    def test_an_observer_that_can_print_lines_is_asked_to(self):
        class Printer:
            def __init__(self):
                self.got = []

            def __call__(self, event):
                raise AssertionError(event)

            def observe_lines(self, event, rows):
                self.got.append((event["log_format"], [at for at, _ in rows]))

        printer = Printer()
        self.patch(log, "logfile", log.LoggingFile(Logger("x", observer=LogPublisher(printer))))
        self.log(self.start(), b"/1", b"/2")
        self.clock.advance(DELAY)
        self.assertEqual(printer.got, [("{log_io}", [self.now] * 2)])

    def test_half_a_line_in_the_file_is_kept(self):
        stream = io.StringIO()
        publisher = LogPublisher(textFileLogObserver(stream))
        self.patch(log, "logfile", file := log.LoggingFile(Logger("x", observer=publisher)))
        file.write("half ")
        self.log(self.start(), b"/1")
        self.clock.advance(DELAY)
        self.assertIn('half "192.0.2.1"', stream.getvalue())

    def test_two_sites_write_to_one_log(self):
        stream = io.StringIO()
        publisher = LogPublisher(textFileLogObserver(stream))
        self.patch(log, "logfile", log.LoggingFile(Logger("x", observer=publisher)))
        one, two = self.start(), self.start()
        self.log(one, b"/1")
        self.log(two, b"/2")
        self.log(one, b"/3")
        self.clock.advance(DELAY)
        self.assertEqual(set(re.findall(r"GET (\S+)", stream.getvalue())), {"/1", "/2", "/3"})
        self.assertEqual(len(publisher._observers), 1)
