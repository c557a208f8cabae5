"""The page: complete, well-formed, and safe with hostile text."""

import re
from xml.etree import ElementTree as ET

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.report.chart import METRICS
from evserve.lab.report.page import as_html, describe_ending
from evserve.lab.results import Outcome, Verdict
from tests.lab.example_results import CLAIM, COUNTS, all_models, breaks, measurement, model, result


HOSTILE = '</title><script>alert(1)</script>"\' onload="x" `</code>&amp;` \x00\x1b'


def parsed(page):
    """Return the page as a tree; HTML that is XML too."""
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


class PageTests(SynchronousTestCase):
    def test_it_has_every_part(self):
        page = as_html(result(all_models(), [CLAIM]))
        tree = parsed(page)
        svgs = tree.findall(".//svg")
        self.assertEqual([svg.get("data-chart") for svg in svgs], [each.key for each in METRICS])
        for svg in svgs:
            self.assertEqual(len(svg.findall(".//a[@data-model]")), 20)
            self.assertTrue(svg.find("title").text and svg.find("desc").text)
        self.assertEqual(len(tree.findall(".//article[@id]")), 20)
        self.assertEqual(len(tree.findall(".//tbody/tr")), 20 * len(COUNTS))
        for words in ("twistd -n evserve lab", "threads cost memory", "holds", "EPollReactor"):
            self.assertIn(words, page)

    def test_it_needs_nothing_from_elsewhere(self):
        page = as_html(result(all_models(), [CLAIM]))
        self.assertNotRegex(page, r"(?i)https?:|<script|@import|url\(|//[a-z]")
        found = re.findall(r"""(?:href|src)=["']([^"']*)""", page)
        self.assertEqual({each for each in found if not each.startswith("#")}, {"data:,"})

    def test_links_lead_somewhere(self):
        tree = parsed(as_html(result(all_models())))
        ids = {each.get("id") for each in tree.iter()}
        for link in tree.iter("a"):
            self.assertIn(link.get("href").removeprefix("#"), ids)

    def test_hostile_text_is_escaped(self):
        hostile = evolve(
            breaks(HOSTILE, HOSTILE, 100, HOSTILE),
            text=f"{HOSTILE}\n\n{HOSTILE}",
            description=HOSTILE,
            program=HOSTILE,
        )
        claim = evolve(CLAIM, claim=HOSTILE, evidence=HOSTILE)
        page = as_html(
            result([hostile], [claim], command=HOSTILE, partial=HOSTILE, notes=(HOSTILE,))
        )
        tree = parsed(page)
        self.assertEqual(list(tree.iter("script")), [])
        self.assertFalse(any(each.get("onload") for each in tree.iter()))
        self.assertNotIn("\x00", page)

    def test_a_partial_run_says_so(self):
        page = as_html(result(partial="it was stopped"))
        self.assertIn("This report is partial: it was stopped.", page)
        self.assertNotIn("partial", as_html(result()).partition("</style>")[2])

    def test_each_verdict_is_shown(self):
        for verdict in Verdict:
            page = as_html(result(claims=[evolve(CLAIM, verdict=verdict)]))
            self.assertIn(f">{verdict}</span>", page)

    def test_without_claims_it_says_so(self):
        self.assertIn("experiments on the claims were left out", as_html(result()))

    def test_a_chart_without_figures_says_so(self):
        page = as_html(result([breaks("blocking", "blocking", 1)]))
        self.assertEqual(page.count("No model has figures for this chart."), len(METRICS))
        parsed(page)

    def test_models_that_are_in_no_chart_are_named(self):
        page = as_html(result([model(), breaks("blocking", "blocking", 1)]))
        self.assertIn("Not shown: blocking (broke at 1).", page)

    def test_measurements_without_figures_for_the_same_reason_share_a_row(self):
        tree = parsed(as_html(result([breaks("blocking", "blocking", 10)])))
        heads = ["".join(each.itertext()) for each in tree.findall(".//th[@scope='row']")]
        self.assertEqual(heads, ["1", "10", "100 to 10,000"])
        self.assertEqual(tree.find(".//th[@scope='rowgroup']").get("rowspan"), "3")

    def test_it_counts_the_measurements_in_which_the_generator_was_the_limit(self):
        cells = [measurement(1, generator_saturated="busy"), measurement(10)]
        page = as_html(result([model(cells=cells)]))
        self.assertIn("the limit in 1 of 2 measurements", page)

    def test_it_counts_the_measurements_that_other_programs_disturbed(self):
        cells = [measurement(1), measurement(10, Outcome.DISTURBED, "others")]
        page = as_html(result([model(cells=cells)]))
        self.assertIn("other programs used the CPU in 1 measurements", page)
        self.assertIn("not measured: others", page)
        self.assertNotIn("other programs", as_html(result()))

    def test_one_model_at_one_number_is_enough(self):
        tree = parsed(as_html(result([model(cells=[measurement(100)])])))
        self.assertEqual(len(tree.findall(".//svg")), len(METRICS))


class EndingTests(SynchronousTestCase):
    def test_the_ending_of_a_model_is_described(self):
        self.assertEqual(describe_ending(model()), "served all clients, up to 10,000 connections.")
        self.assertEqual(
            describe_ending(breaks("x", "told", 100, "no")), "broke at 100 connections: no."
        )
        missing = [measurement(1, Outcome.UNAVAILABLE, "needs gevent")]
        self.assertIn(
            "cannot run at 1 connection: needs gevent", describe_ending(model(cells=missing))
        )
        skipped = [measurement(1), measurement(10, Outcome.SKIPPED, "memory")]
        self.assertIn(
            "not tried with 10 connections: memory", describe_ending(model(cells=skipped))
        )
        self.assertEqual(
            describe_ending(model(cells=[measurement(1, Outcome.NOT_RUN)])), "not run."
        )
        disturbed = [measurement(1, Outcome.DISTURBED, "others")]
        self.assertEqual(describe_ending(model(cells=disturbed)), "not measured: others.")
        self.assertIn(
            "It printed: hot.", describe_ending(model(cells=[measurement(1, why="hot")]))
        )
