"""The page: complete, well-formed, and safe whatever a program says of itself."""

import re
from xml.etree import ElementTree as ET

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.report.chart import Chart
from evserve.lab.report.labels import Label
from evserve.lab.report.markup import Markup, prose, tag
from evserve.lab.report.models import ending
from evserve.lab.report.page import as_html
from evserve.lab.report.series import METRICS, lines_of
from evserve.lab.results import Outcome, Verdict
from tests.lab.example_results import CLAIM, COUNTS, all_models, breaks, cell, model, result


HOSTILE = '</title><script>alert(1)</script>"\' onload="x" `</code>&amp;` \x00\x1b'


def parsed(page):
    """Return the page as a tree; HTML that is XML too."""
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


class MarkupTests(SynchronousTestCase):
    def test_text_and_attributes_are_escaped(self):
        self.assertEqual(tag("p", "<&>", id='"'), '<p id="&quot;">&lt;&amp;&gt;</p>')

    def test_markup_is_not_escaped_again(self):
        self.assertEqual(tag("p", tag("b", "x"), Markup("&#8211;")), "<p><b>x</b>&#8211;</p>")

    def test_what_is_none_is_left_out(self):
        self.assertEqual(
            tag("p", None, id=None, class_="x", data_x=1.50), '<p class="x" data-x="1.5"></p>'
        )

    def test_backticks_are_code(self):
        self.assertEqual(prose("a `b<` c"), "a <code>b&lt;</code> c")
        self.assertEqual(prose("it`s"), "it`s")


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

    def test_hostile_words_stay_words(self):
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

    def test_each_verdict_is_told(self):
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
        self.assertIn("Not in it: blocking (broke at 1).", page)

    def test_cells_without_figures_for_the_same_reason_share_a_row(self):
        tree = parsed(as_html(result([breaks("blocking", "blocking", 10)])))
        heads = ["".join(each.itertext()) for each in tree.findall(".//th[@scope='row']")]
        self.assertEqual(heads, ["1", "10", "100 to 10,000"])
        self.assertEqual(tree.find(".//th[@scope='rowgroup']").get("rowspan"), "3")

    def test_it_tells_in_how_many_cells_the_generator_was_the_limit(self):
        cells = [cell(1, generator_saturated="busy"), cell(10)]
        page = as_html(result([model(cells=cells)]))
        self.assertIn("the limit in 1 of 2 measurements", page)

    def test_one_model_at_one_number_is_enough(self):
        tree = parsed(as_html(result([model(cells=[cell(100)])])))
        self.assertEqual(len(tree.findall(".//svg")), len(METRICS))


class EndingTests(SynchronousTestCase):
    def test_what_became_of_a_model(self):
        self.assertEqual(ending(model()), "served everybody, up to 10,000 connections.")
        self.assertEqual(ending(breaks("x", "told", 100, "no")), "broke at 100 connections: no.")
        missing = [cell(1, Outcome.UNAVAILABLE, "needs gevent")]
        self.assertIn("cannot run at 1 connection: needs gevent", ending(model(cells=missing)))
        skipped = [cell(1), cell(10, Outcome.SKIPPED, "memory")]
        self.assertIn("not tried with 10 connections: memory", ending(model(cells=skipped)))
        self.assertEqual(ending(model(cells=[cell(1, Outcome.NOT_RUN)])), "not run.")
        self.assertIn("It said: hot.", ending(model(cells=[cell(1, why="hot")])))


class ChartTests(SynchronousTestCase):
    def setUp(self):
        models = [*all_models()[2:], breaks("blocking", "blocking", 10)]
        models.append(breaks("thread_pool", "blocking", 10))
        self.lines = lines_of(models, METRICS[0])
        self.svg = ET.fromstring(Chart.of(METRICS[0], self.lines, COUNTS).svg())

    def test_a_broken_line_has_its_cross_and_its_number(self):
        (line,) = self.svg.findall(".//a[@data-model='blocking']")
        self.assertEqual(len(line.findall("path[@class='broke']")), 1)
        self.assertEqual(line.find("text").text, "blocking ✕ at 10")
        (whole,) = self.svg.findall(".//a[@data-model='poll_loop']")
        self.assertEqual(whole.findall("path[@class='broke']"), [])

    def test_names_do_not_cover_each_other(self):
        labels = [
            Label(each.text, float(each.get("x")), float(each.get("y")), len(each.text) * 6.9, 12)
            for each in self.svg.findall(".//text[@class='name']")
        ]
        self.assertEqual(len(labels), len(self.lines))
        for number, one in enumerate(labels):
            for other in labels[number + 1 :]:
                self.assertFalse(one.covers(other), (one, other))

    def test_the_numbers_of_connections_are_on_the_axis(self):
        texts = [each.text for each in self.svg.findall(".//text[@class='x']")]
        self.assertEqual(texts, ["1", "10", "100", "1k", "3k", "10k"])

    def test_members_of_a_family_have_marks_of_their_own(self):
        marks = {}
        for name in ("epoll_level", "epoll_edge", "selectors_loop", "io_uring_completion"):
            (line,) = self.svg.findall(f".//a[@data-model='{name}']")
            marks[name] = line.find("path[@class='full']").get("d")
        self.assertEqual(len(set(marks.values())), 4)
