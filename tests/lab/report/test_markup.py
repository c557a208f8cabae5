"""Elements of HTML and SVG."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.report.markup import Markup, prose, tag


class MarkupTests(SynchronousTestCase):
    def test_text_and_attributes_are_escaped(self):
        self.assertEqual(tag("p", "<&>", id='"'), '<p id="&quot;">&lt;&amp;&gt;</p>')

    def test_markup_is_not_escaped_again(self):
        self.assertEqual(tag("p", tag("b", "x"), Markup("&#8211;")), "<p><b>x</b>&#8211;</p>")

    def test_none_is_left_out(self):
        self.assertEqual(
            tag("p", None, id=None, class_="x", data_x=1.50), '<p class="x" data-x="1.5"></p>'
        )

    def test_backticks_are_code(self):
        self.assertEqual(prose("a `b<` c"), "a <code>b&lt;</code> c")
        self.assertEqual(prose("it`s"), "it`s")
