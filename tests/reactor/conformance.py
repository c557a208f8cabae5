"""Runs Twisted's own reactor tests on one reactor: `python -m tests.reactor.conformance NAME`.

Twisted ships them in its wheel. `ReactorBuilder` reads `_reactors` when a test module is imported,
so this needs a process of its own. It prints one JSON object: the outcome of each test by its name
(pass, skip, or what went wrong).
"""

import importlib
import json
import os
import sys
import tempfile
from unittest import TestSuite

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestLoader

from evserve.reactor import new_reactor


MODULES = [
    "core",
    "time",
    "threads",
    "fdset",
    "tcp",
    "unix",
    "udp",
    "tls",
    "newtls",
    "socket",
    "process",
    "stdio",
]
SECONDS = 60  # for one test; on a quiet machine it takes a tenth of a second


def Epoll(test):
    return EPollReactor()


def Uvloop(test):
    reactor = new_reactor()
    test.addCleanup(reactor.loop.close)
    return reactor


class Outcomes(TestResult):
    """Keeps the outcome of each test by its name."""

    def __init__(self):
        super().__init__()
        self.of = {}

    def _keep(self, test, outcome):
        self.of[name_of(test)] = outcome

    def addSuccess(self, test):
        self.of.setdefault(name_of(test), "pass")

    def addSkip(self, test, reason):
        self._keep(test, "skip")

    def addError(self, test, error):
        self._keep(test, f"error: {error.getErrorMessage()}"[:300])

    addFailure = addError


def name_of(test):
    """Return the test's name without its module and its reactor."""
    return (
        ".".join(test.id().split(".")[-2:]).replace("_EpollTests", "").replace("_UvloopTests", "")
    )


def cases(suite):
    """Yield the tests of reactors."""
    for each in suite:
        if isinstance(each, TestSuite) or hasattr(each, "_tests"):
            yield from cases(each)
        elif isinstance(each, ReactorBuilder):
            yield each


def main(name):
    ReactorBuilder._reactors = [f"tests.reactor.conformance.{name}"]
    ReactorBuilder.getTimeout = lambda _test: SECONDS
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for module in MODULES:
            loaded = importlib.import_module(f"twisted.internet.test.test_{module}")
            for case in cases(TestLoader().loadModule(loaded)):
                case.run(outcomes)
        os.chdir("/")
    print(json.dumps(outcomes.of))


if __name__ == "__main__":
    # By this name, under which Twisted looks the reactor up.
    importlib.import_module("tests.reactor.conformance").main(sys.argv[1])
