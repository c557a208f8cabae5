"""The lab's page in a real browser: it needs no other file, and its charts are readable."""

import json
import shutil
import tempfile
from pathlib import Path
from unittest import SkipTest

from attrs import evolve
from twisted.trial.unittest import TestCase

from evserve.lab.report.chart import METRICS
from evserve.lab.report.page import as_html
from tests.integration.browser import CHROMIUM, start_browser
from tests.lab.example_results import CLAIM, all_models, breaks, result


# The contents of a page's charts, in pixels of the window.
LOOK = """JSON.stringify([...document.querySelectorAll('svg')].map(svg => {
  const box = element => {
    const {left, top, right, bottom} = element.getBoundingClientRect();
    return {left, top, right, bottom, text: element.textContent};
  };
  return {
    name: svg.dataset.chart,
    box: box(svg),
    font: parseFloat(getComputedStyle(svg).fontSize) * svg.getBoundingClientRect().width / 1120,
    lines: [...svg.querySelectorAll('.line')].map(line => line.dataset.model),
    strokes: [...svg.querySelectorAll('.stroke')].map(path => path.getTotalLength()),
    texts: [...svg.querySelectorAll('text')].map(box),
  };
}))"""
END = "document.querySelector('pre code') !== null"  # the last element of the page
BROKEN = {"blocking": 10, "thread_pool": 10, "gevent_unpatched": 10, "select_loop": 3_000}


def similar_models():
    """Return twenty models with similar figures; some broke, three of them at the same number."""
    return [
        breaks(each.name, each.family, BROKEN[each.name]) if each.name in BROKEN else each
        for each in all_models()
    ]


def overlap(one, other):
    """Say whether two boxes overlap by more than a pixel."""
    return (
        min(one["right"], other["right"]) - max(one["left"], other["left"]) > 1
        and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > 1
    )


class LabPageTests(TestCase):
    def setUp(self):
        if CHROMIUM is None:
            raise SkipTest("there is no chromium (mend: apt-get install chromium)")
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.browser = start_browser(self)

    async def open(self, found, **view):
        path = self.folder / "lab.html"
        path.write_text(as_html(found), "utf-8")
        await self.browser.open(path.as_uri(), **view)
        await self.browser.once(END)

    async def charts(self):
        return json.loads(await self.browser.once(LOOK))

    def check(self, charts, names):
        self.assertEqual([chart["name"] for chart in charts], [each.key for each in METRICS])
        for chart in charts:
            box = chart["box"]
            self.assertGreater(box["right"] - box["left"], 300)
            self.assertGreater(box["bottom"] - box["top"], 200)
            self.assertGreater(chart["font"], 8.5)
            wanted = names if chart["name"] != "memory" else names - set(list(BROKEN)[:3])
            self.assertEqual(set(chart["lines"]), wanted)
            self.assertEqual(len(chart["lines"]), len(wanted))
            for number, one in enumerate(chart["texts"]):
                self.assertGreaterEqual(one["left"], box["left"] - 1, one)
                self.assertLessEqual(one["right"], box["right"] + 1, one)
                for other in chart["texts"][number + 1 :]:
                    self.assertFalse(overlap(one, other), (chart["name"], one, other))

    async def test_all_charts_can_be_read_on_a_desk_and_on_a_phone(self):
        models = similar_models()
        names = {model.name for model in models}
        for width in (1280, 800, 390):
            await self.open(result(models, [CLAIM]), width=width, height=900)
            self.check(await self.charts(), names)
            wide = "document.documentElement.scrollWidth"
            self.assertLessEqual(await self.browser.once(wide), width)

    async def test_it_loads_nothing_and_has_no_errors(self):
        problems, requests = [], []
        received = self.browser.childDataReceived

        def listen(descriptor, data):
            for message in data.split(b"\0"):
                if b'"method":"Network.requestWillBeSent"' in message:
                    requests.append(message)
                if b'"method":"Log.entryAdded"' in message or b"exceptionThrown" in message:
                    problems.append(message)
            received(descriptor, data)

        self.browser.childDataReceived = listen
        await self.browser.open("about:blank")
        for domain in ("Network", "Log", "Runtime"):
            await self.browser.call(f"{domain}.enable")
        path = self.folder / "lab.html"
        path.write_text(as_html(result(similar_models(), [CLAIM])), "utf-8")
        await self.browser.call("Page.navigate", url=path.as_uri())
        await self.browser.once(END)
        addresses = [json.loads(each)["params"]["request"]["url"] for each in requests]
        self.assertIn(path.as_uri(), addresses)
        others = [each for each in addresses if each != path.as_uri() and each[:5] != "data:"]
        self.assertEqual((others, problems), ([], []))

    async def test_a_family_can_be_shown_alone(self):
        await self.open(result(similar_models()))
        await self.browser.once("(document.querySelector('#show-scanning').click(), true)")
        faint = "getComputedStyle(document.querySelector('svg .line.%s')).opacity"
        await self.browser.once(f"{faint % 'told'} < 0.5")
        self.assertEqual(await self.browser.once(faint % "scanning"), "1")

    async def test_it_follows_the_colour_scheme(self):
        for scheme, colour in (("dark", "rgb(17, 19, 22)"), ("light", "rgb(246, 246, 243)")):
            await self.open(result(similar_models()), scheme=scheme)
            background = "getComputedStyle(document.body).backgroundColor"
            self.assertEqual(await self.browser.once(background), colour)
            picture = await self.browser.screenshot()
            self.assertTrue(picture.startswith(b"\x89PNG"))

    async def test_hostile_text_runs_nothing(self):
        words = (
            "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
        )
        model = evolve(breaks("mine", "yours", 100, words), text=words, description=words)
        await self.open(result([model], partial=words, command=words))
        self.assertEqual(await self.browser.once("document.title"), "The I/O-model lab")
        self.assertEqual(await self.browser.once("String(document.images.length)"), "0")
