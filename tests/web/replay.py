"""Holds conversations with a site over a connection in memory."""

import re
from io import StringIO
from pathlib import Path

from attrs import frozen
from twisted.internet import _producer_helpers
from twisted.internet.task import Clock, Cooperator
from twisted.web.server import Site

from evserve.web import fast
from tests.web.conversations import END, READ_AGAIN, STOP_READING
from tests.web.memory_connection import connect
from tests.web.resources import Seen, make_files, make_root


SERVERS = {"stock": lambda site: site, "fast": fast}
DATE = re.compile(rb"\r\nDate: [^\r]*")
STATUS = re.compile(rb"HTTP/1\.[01] (\d\d\d) ")


@frozen
class Outcome:
    """What came of a conversation.

    `trace` has, after each step, how many bytes the client has read and the connection's state.
    """

    requests: list
    ends: list
    answer: bytes
    trace: list
    errors: list
    log: str

    @property
    def state(self):
        return self.trace[-1][1]

    def __str__(self):
        codes = b" ".join(STATUS.findall(self.answer)).decode()
        return f"{len(self.requests)} seen, {codes or 'no answer'}, {self.state}"


def steps_of(conversation, *, bytewise=False):
    steps = [conversation] if isinstance(conversation, bytes) else conversation
    for step in steps:
        if bytewise and isinstance(step, bytes):
            yield from (step[n : n + 1] for n in range(len(step)))
        else:
            yield step


def replay(test, server, steps):
    """Return the outcome of a conversation with one of `SERVERS`."""
    clock, seen = Clock(), Seen()
    folder = _folder_of(test)
    site = SERVERS[server](Site(make_root(clock, seen, folder), reactor=clock))
    site.logFile, site._logDateTime = StringIO(), "[now]"
    cooperator = Cooperator(scheduler=lambda call: clock.callLater(0, call))
    test.patch(_producer_helpers, "cooperate", cooperator.cooperate)
    connection = connect(site)
    trace = []
    for step in steps:
        if isinstance(step, bytes):
            connection.receive(step)
        elif step == END:
            connection.end()
        elif step == STOP_READING:
            connection.stop_reading()
        elif step == READ_AGAIN:
            connection.read_again()
        else:
            clock.advance(step)
        _settle(connection, clock)
        trace.append((len(connection.sent), connection.state))
    answer = bytes(connection.sent)
    if connection.connected:  # so that what waits for the end of the connection is told
        connection.stop_reading()
        connection.abortConnection()
    return Outcome(
        requests=seen.requests,
        ends=sorted(seen.ends, key=lambda end: end[0]),
        answer=DATE.sub(b"", answer),
        trace=trace,
        errors=[each.type.__name__ for each in test.flushLoggedErrors()],
        log=site.logFile.getvalue(),
    )


def _folder_of(test):
    """Return the folder with files for all sites of a test."""
    if not hasattr(test, "folder"):
        test.folder = Path(test.mktemp()).absolute()
        make_files(test.folder)
    return test.folder


def _settle(connection, clock):
    connection.settle()
    while any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()):
        clock.advance(0)
        connection.settle()
