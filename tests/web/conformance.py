"""Runs other projects' web tests on one channel: `python -m tests.web.conformance stock twisted`.

Twisted, klein and treq ship them in their wheels. They make a `Site` or an `HTTPChannel` where
they need one, so the fast channel takes their place, which needs a process of its own. It prints
one JSON object: the outcome of each test by its name (pass, skip, or what went wrong).

`... fast httpbin` is the server process of treq's tests: httpbin, which is Debian's, on WSGI.
"""

import importlib
import json
import os
import runpy
import sys
import tempfile
import warnings
from pathlib import Path

from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestLoader, TrialSuite
from twisted.trial.unittest import TestCase


SUITES = {
    "twisted": [
        f"twisted.web.test.test_{name}"
        for name in (
            *("cgi", "distrib", "http", "http2", "httpauth", "pages", "proxy", "resource"),
            *("script", "static", "tap", "template", "util", "vhost", "web", "webclient"),
            *("websocket", "wsgi", "xmlrpc"),
        )
    ],
    "klein": [
        f"klein.test.test_{name}" for name in ("app", "form", "requirer", "resource", "session")
    ],
    "treq": [f"treq.test.test_{name}" for name in ("content", "testing", "treq_integration")],
}
SECONDS = 30  # for one test; on a quiet machine it takes a hundredth of a second
DEBIAN = Path("/usr/lib/python3/dist-packages")
# httpbin and what it imports, in Debian's versions: those of PyPI do not fit to each other.
HTTPBIN = (
    *("blinker", "click", "decorator.py", "flask", "httpbin", "itsdangerous", "jinja2"),
    *("markupsafe", "six.py", "werkzeug"),
)


class Outcomes(TestResult):
    """Keeps the outcome of each test by its name."""

    def __init__(self):
        super().__init__()
        self.of = {}

    def _keep(self, test, outcome):
        self.of[".".join(test.id().split(".")[-3:])] = outcome

    def addSuccess(self, test):
        self.of.setdefault(".".join(test.id().split(".")[-3:]), "pass")

    def addSkip(self, test, reason):
        self._keep(test, "skip")

    def addError(self, test, error):
        self._keep(test, f"error: {error.getErrorMessage()}"[:300])

    addFailure = addError


def use_fast():
    """Let every site be a fast one, and every channel that a test makes itself."""
    from twisted.web import http, server

    from evserve.web import fast
    from evserve.web.channel import FastChannel

    class Channel(FastChannel):
        """A channel that also works as tests use it: without a factory, with a clock set late."""

        factory = http.HTTPFactory()

        def connectionMade(self):
            super().connectionMade()
            clock = getattr(self.callLater, "__self__", None)
            if hasattr(clock, "seconds"):
                self._seconds = clock.seconds
                self.resetTimeout()

    stock_init = server.Site.__init__

    def __init__(self, *args, **options):  # noqa: N807 - of the class Site
        stock_init(self, *args, **options)
        fast(self)

    server.Site.__init__ = __init__
    http.HTTPChannel = Channel


def load(names):
    """Yield the suites of modules, except those whose imports are not installed."""
    for name in names:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            print(f"{name}: {error}", file=sys.stderr)
        else:
            yield TestLoader().loadModule(module)


def let_treq_start(name):
    """Let treq's tests start this program for their server."""
    from treq.test.local_httpbin import parent

    started = parent.endpoints.ProcessEndpoint

    class ProcessEndpoint(started):
        def __init__(self, reactor, executable, argv, **options):
            argv = [executable, "-m", "tests.web.conformance", name, "httpbin", *argv[3:]]
            super().__init__(reactor, executable, argv, **options)

    parent.endpoints.ProcessEndpoint = ProcessEndpoint


def serve_httpbin(words):
    with tempfile.TemporaryDirectory() as folder:
        for package in HTTPBIN:
            Path(folder, package).symlink_to(DEBIAN / package)
        sys.path.insert(0, folder)
        sys.argv[1:] = words
        runpy.run_module("treq.test.local_httpbin.child", run_name="__main__")


def main(name, suite, *words):
    warnings.simplefilter("ignore")
    if name == "fast":
        use_fast()
    if suite == "httpbin":
        serve_httpbin(words)
        return
    if suite == "treq":
        let_treq_start(name)
    TestCase.getTimeout = lambda _test: SECONDS
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        TrialSuite(load(SUITES[suite])).run(outcomes)
        os.chdir("/")
    print(json.dumps(outcomes.of))


if __name__ == "__main__":
    main(*sys.argv[1:])
