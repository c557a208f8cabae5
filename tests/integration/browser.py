"""Headless Chromium, driven by the DevTools protocol over a pair of pipes."""

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
WRITE, READ = 3, 4  # the browser's descriptors for commands and for answers

# Resolves once an expression is true; evaluates it again whenever the page changes.
ONCE = """new Promise(resolve => {
  const look = () => { const found = (%s); if (found) resolve(found); };
  new MutationObserver(look).observe(
    document, {subtree: true, childList: true, characterData: true, attributes: true});
  look();
})"""


@define(eq=False)
class Browser(ProcessProtocol):
    """A browser with one page; `ended` fires when its process has ended."""

    ended: Deferred = field(factory=Deferred)
    _numbers: Iterator[int] = field(factory=count)
    _answers: dict = field(factory=dict)
    _partial_message: bytes = b""
    _session: dict = field(factory=dict)

    def childDataReceived(self, descriptor, data):
        if descriptor != READ:
            return
        *messages, self._partial_message = (self._partial_message + data).split(b"\0")
        for message in map(json.loads, messages):
            waiting = self._answers.pop(message.get("id"), None)
            if waiting is not None:
                waiting.callback(message)

    def processEnded(self, reason):
        waiting, self._answers = list(self._answers.values()), {}
        for each in waiting:
            each.errback(reason)
        self.ended.callback(None)

    async def call(self, method, **parameters):
        """Run a DevTools command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        self._answers[number] = answered = Deferred()
        self.transport.writeToChild(WRITE, json.dumps(message).encode() + b"\0")
        answer = await answered
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def open(self, url, width=1200, height=1400, scheme="light"):
        """Open a page in a window of that many pixels; `scheme` is "light" or "dark"."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = {"sessionId": attached["sessionId"]}
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.call("Page.navigate", url=url)

    async def once(self, expression):
        """Return the value of a JavaScript expression as soon as it is true."""
        answer = await self.call(
            "Runtime.evaluate", expression=ONCE % expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"]["value"]

    async def screenshot(self):
        """Return the contents of the window as a PNG file."""
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])


def start_browser(test):
    """Start Chromium with a new profile; it is killed at the end of `test`."""
    from twisted.internet import reactor

    browser = Browser()
    profile = tempfile.mkdtemp()
    test.addCleanup(shutil.rmtree, profile, ignore_errors=True)

    def kill():
        if not browser.ended.called:
            browser.transport.signalProcess("KILL")
        return browser.ended

    test.addCleanup(kill)
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
    pipes = {0: "w", 1: "r", 2: "r", WRITE: "w", READ: "r"}
    reactor.spawnProcess(browser, CHROMIUM, words, {**os.environ, "HOME": profile}, childFDs=pipes)
    return browser
