"""README's picture: the status page of a queue whose events a worker handles."""

import base64
import itertools
import math
import os
import shutil
import tempfile
from pathlib import Path

from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.browser import CHROMIUM, start_browser
from tests.integration.processes import address_of, spawn
from tests.integration.stream_client import send


PICTURE = Path(__file__).parents[2] / "docs" / "status-page.png"
# To draw the picture anew: EVSERVE_UPDATE_PICTURE=1 trial tests.integration.test_readme_picture
UPDATE = bool(os.environ.get("EVSERVE_UPDATE_PICTURE"))

QUEUE = """\
[evserve]
admin = "tcp:0"
[services.queue]
port = 0
"""
WORKER = '[evserve]\nadmin = "tcp:0"\n[services.work]\nqueue = "beanstalk://{}"\n'
PLUGIN = 'from evserve.plugin import Handler\nthumb = Handler("*", "thumbs.make")\n'
HANDLER = "async def make(event):\n    pass\n"


def put_some(turn):
    """Return the commands that put some events of two types, now more and now fewer."""
    words = b""
    for event_type, wave in ((b"image.uploaded", 40), (b"mail.outgoing", 90)):
        words += b"use %b\r\n" % event_type
        words += b"put 0 0 60 7\r\ncat.png\r\n" * round(15 + 10 * math.sin(turn / wave))
    return words


class PictureTests(TestCase):
    async def test_the_picture_shows_a_queue_at_work(self):
        from twisted.internet import reactor

        if CHROMIUM is None:
            raise SkipTest("chromium is not installed")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        folder.joinpath("twisted", "plugins").mkdir(parents=True)
        folder.joinpath("twisted", "plugins", "thumbs_plugin.py").write_text(PLUGIN)
        folder.joinpath("thumbs.py").write_text(HANDLER)
        folder.joinpath("queue.toml").write_text(QUEUE)
        server = spawn(self, "--config", "queue.toml", folder=folder)
        queue = await address_of(server, "queue")
        folder.joinpath("work.toml").write_text(WORKER.format(queue))
        worker = spawn(self, "--config", "work.toml", folder=folder)
        await worker.until(lambda: b" serves " in worker.err)

        producer = await send(self, queue)
        sending = LoopingCall.withCount(lambda _: producer.transport.write(next(puts)))
        puts = map(put_some, itertools.count())
        sending.start(0.05)
        self.addCleanup(sending.stop)
        browser = start_browser(self)
        admin = await address_of(server, "admin")
        await browser.open(f"http://{admin}/", width=1000, height=890)
        await browser.once(
            "parseFloat(document.querySelector('[data-service=queue] .value')?.textContent) > 0"
        )
        if UPDATE:
            await deferLater(reactor, 45, lambda: None)  # the curves need their time
        clip = {"x": 0, "y": 0, "width": 1000, "height": 875, "scale": 0.8}
        answer = await browser.call("Page.captureScreenshot", clip=clip)
        picture = base64.b64decode(answer["data"])
        self.assertTrue(picture.startswith(b"\x89PNG"))
        if UPDATE:
            PICTURE.write_bytes(picture)
        self.assertTrue(PICTURE.read_bytes().startswith(b"\x89PNG"))
