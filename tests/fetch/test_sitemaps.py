"""Sitemaps: the parser, and the source that reads them."""

import gzip

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.errors import SitemapFailed
from evserve.fetch.policy import Policy
from evserve.fetch.sitemaps import SitemapMarkup, SitemapParser, SitemapSource
from evserve.fetch.testing import Page
from evserve.fetch.text import DECLARED_WITHIN
from evserve.http.errors import CorruptBody, TruncatedBody
from evserve.http.headers import Headers
from evserve.http.url import MAX_LENGTH, parse_url
from tests.fetch.memory_world import World, redirect


SPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"


def sitemap(*urls, kind="url", space=SPACE):
    root = {"url": "urlset", "sitemap": "sitemapindex"}[kind]
    items = "".join(f"<{kind}>\n<loc> {url} </loc><lastmod>x</lastmod></{kind}>" for url in urls)
    return f'<?xml version="1.0"?><{root} xmlns="{space}">{items}</{root}>'.encode()


def parse(data, size=7):
    parser = SitemapParser()
    for start in range(0, len(data), size):
        parser.feed(data[start : start + size])
    parser.finish()
    return parser


class SitemapParserTests(SynchronousTestCase):
    def test_pages_are_found_in_any_pieces(self):
        data = sitemap("http://a/?x=1&amp;y=2", "http://a/ü")
        for size in (1, 7, 10_000):
            self.assertEqual(parse(data, size).pages, ["http://a/?x=1&y=2", "http://a/ü"])

    def test_pages_are_found_in_any_pieces_of_a_long_sitemap(self):
        odd = b"<!--<loc>--><?x <loc>?><!DOCTYPE x [ ]>"
        item = odd + b"<url><loc><![CDATA[http://a/?x&y]]></loc></url>"
        data = b"<urlset>" + b" " * DECLARED_WITHIN + item * 2 + b"</urlset>"
        for size in (1, 2, 3, 5, 7, len(data)):
            self.assertEqual(parse(data, size).pages, ["http://a/?x&y"] * 2, size)

    def test_an_index_names_sitemaps(self):
        parser = parse(sitemap("http://a/1.xml", kind="sitemap"))
        self.assertEqual((parser.pages, parser.sitemaps), ([], ["http://a/1.xml"]))

    def test_a_long_tag_in_many_pieces_is_read_once(self):
        read, read_token = [], SitemapMarkup._read_token

        def counting(markup, text, start):
            read.append(len(text) - start)
            return read_token(markup, text, start)

        self.patch(SitemapMarkup, "_read_token", counting)
        for begin, end in ((b"<a ", b">"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>"), (b"<!D", b">")):
            del read[:]
            data = b"<urlset>" + begin + b"x" * 20_000 + end + b"</urlset>"
            self.assertRaises(SitemapFailed, parse, data[:-9], 1)
            self.assertLess(sum(read), 5 * len(data), begin)

    def test_gzip_is_recognised_by_its_first_bytes(self):
        self.assertEqual(parse(gzip.compress(sitemap("http://a/")), 1).pages, ["http://a/"])

    def test_gzip_may_have_several_members(self):
        data = sitemap("http://a/", "http://b/")
        zipped = gzip.compress(data[:99]) + gzip.compress(data[99:])
        self.assertEqual(parse(zipped).pages, ["http://a/", "http://b/"])

    def test_a_text_sitemap_has_one_url_per_line(self):
        text = "\ufeff\r\n http://a/ü\r\n\r\nHTTPS://b/?x=1&y=2 \nno url\rhttp://c/".encode()
        urls = ["http://a/ü", "HTTPS://b/?x=1&y=2", "no url", "http://c/"]
        members = gzip.compress(text[:20]) + gzip.compress(text[20:])
        for data in (text, gzip.compress(text), members):
            for size in (1, 7, 10_000):
                parser = parse(data, size)
                self.assertEqual((parser.pages, parser.sitemaps), (urls, []))

    def test_a_line_without_end_is_cut_in_a_text_sitemap(self):
        (long,) = parse(b"http://a/" + b"x" * 1_000_000, 65536).pages
        self.assertEqual(len(long), MAX_LENGTH + 1)

    def test_xml_may_be_utf_16_or_begin_with_blanks(self):
        wide = sitemap("http://a/ü").decode().encode("utf-16")
        self.assertEqual(parse(wide).pages, ["http://a/ü"])
        self.assertEqual(parse(b"\xef\xbb\xbf \n" + sitemap("http://a/")).pages, ["http://a/"])

    def test_the_root_alone_may_be_without_the_namespace(self):
        data = f'<urlset xmlns:s="{SPACE}"><s:url><s:loc>http://a/</s:loc></s:url></urlset>'
        self.assertEqual(parse(data.encode()).pages, ["http://a/"])

    def test_the_namespace_may_be_misspelt(self):
        old = sitemap("http://a/", space="http://www.google.com/schemas/sitemap/0.84")
        self.assertEqual(parse(old).pages, ["http://a/"])

    def test_the_namespace_may_be_missing_and_others_do_not_count(self):
        self.assertEqual(parse(b"<urlset><url><loc>u</loc></url></urlset>").pages, ["u"])
        image = b'<urlset xmlns:i="urn:i"><url><i:loc>no</i:loc><loc>u</loc></url></urlset>'
        self.assertEqual(parse(image).pages, ["u"])

    def test_what_is_nearly_xml_is_read(self):
        table = [
            ("<urlset><url><loc>u?a=1&b=2&amp;c=&lt;</loc></url></urlset>", ["u?a=1&b=2&c=<"]),
            (
                "<urlset><url><loc>u&nbsp;&copy=1&#x41;&#66;</loc></url></urlset>",
                ["u&nbsp;&copy=1AB"],
            ),
            ("<urlset><url><loc>a<b</loc></url></urlset>", ["a<b"]),
            ("<urlset><url><loc>a</url><url><loc>b</loc></url></urlset>", ["a", "b"]),
            ("<urlset><url><loc>a<lastmod>x</lastmod></url></urlset>", ["a"]),
            ("<urlset><url></p><loc>a</loc><br></url></urlset>", ["a"]),
            ("<urlset></urlset>junk<html>", []),
            (
                "<urlset><url><loc>a</loc></url></urlset><urlset><url><loc>b</loc></url></urlset>",
                ["a", "b"],
            ),
            ("<urlset a=b c=\"'><url><loc>a\x07</loc></url></urlset>", ["a\x07"]),
        ]
        for text, pages in table:
            for size in (1, 7, 10_000):
                parser = parse(text.encode(), size)
                self.assertEqual(parser.pages, pages, text)
        self.assertEqual(parse(table[0][0].encode()).problem, "it has a bare &")

    def test_other_spellings_of_xml_are_read(self):
        table = [
            "<URLSET><Url><LOC>a</Loc></URL></urlset >",
            "<urlset><url><loc><![CDATA[ a ]]></loc></url></urlset>",
            "<urlset><url><loc>\n\t<!-- <loc>b</loc> -->a\r\n</loc></url></urlset>",
            "<?xml version='1.0'?><?x y='z'?><urlset ><url ><loc\n>a</loc></url></urlset>",
            "<!DOCTYPE urlset SYSTEM 'x'><urlset><url><loc>a</loc><x/></url></urlset>",
            "<!DOCTYPE urlset [<!ELEMENT x (y)>]><urlset><url><loc>a</loc></url></urlset>",
            f"<s:urlset xmlns:s='{SPACE}'><s:url><s:loc>a</s:loc></s:url></s:urlset>",
            "<s:urlset><s:url><s:loc>a</s:loc><i:loc>b</i:loc></s:url></s:urlset>",
            "<urlset><url><loc>a</loc><i xmlns='urn:i'><loc>b</loc></i></url></urlset>",
        ]
        for text in table:
            for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
                parser = parse(text.encode(encoding), 5)
                self.assertEqual((parser.pages, parser.problem), (["a"], ""), text)

    def test_a_declared_encoding_counts_unless_it_cannot_be(self):
        item = "<urlset><url><loc>http://a/é</loc></url></urlset>"
        for name, encoding in (("ISO-8859-1", "latin-1"), ("UTF-16", "utf-8"), ("x", "utf-8")):
            data = f'<?xml version="1.0" encoding="{name}"?>{item}'.encode(encoding)
            self.assertEqual(parse(data).pages, ["http://a/é"])
        (url,) = parse(item.encode("latin-1")).pages
        self.assertEqual(parse_url(url).target, "/%E9")

    def test_cdata_keeps_its_references(self):
        data = b"<urlset><url><loc><![CDATA[u?a&amp;b&c]]>&amp;d</loc></url></urlset>"
        parser = parse(data)
        self.assertEqual((parser.pages, parser.problem), (["u?a&amp;b&c&d"], ""))

    def test_a_long_comment_is_not_kept(self):
        parser = SitemapParser()
        parser.feed(b"<urlset><!--")
        for _ in range(50):
            parser.feed(b"<loc>x</loc>" * 5000)
        parser.feed(b"--><url><loc>a</loc></url></urlset>")
        parser.finish()
        self.assertEqual(parser.pages, ["a"])

    def test_an_invalid_sitemap_is_an_error_with_its_reason(self):
        table = [
            (b"hello", "neither XML nor a list of URLs"),
            (b"", "neither XML"),
            (b"h", "neither XML"),
            (b"<urlset>", "cut off: it ends before </urlset>"),
            (b"<urlset><url><!-- never", "cut off"),
            (b"<!DOCTYPE html><html><body>", "it begins with <html>"),
            (b"<urlset><url><loc>u</loc></url><" + b"x" * 100_000, "a tag or section of more"),
            (b"<urlset>" + b"< " * 10_001, "more than 10000 <"),
            (b"<urlset>" + b"<url>" * 1000, "more than 100 elements in each other"),
            (b"<rss><channel/></rss>", "it begins with <rss>"),
            (gzip.compress(sitemap("u"))[:-9], "cut off"),
            (gzip.compress(b"http://a/")[:-9], "cut off"),
            (b"\x1f\x8bnonsense here", "corrupt"),
            (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "entities"),
            (b'<!doctype a [ <!-- ]> --> <!entity b "c">]><urlset>', "entities"),
            (gzip.compress(bytes(101 * 1024 * 1024)), "neither XML"),
            (gzip.compress(b"http://a/" + bytes(101 * 1024 * 1024)), "longer than"),
        ]
        for data, reason in table:
            error = self.assertRaises(SitemapFailed, parse, data, 65536)
            self.assertIn(reason, str(error))

    def test_an_endless_sitemap_is_refused(self):
        parser = SitemapParser()
        parser.feed(b"<urlset>")
        spaces = b" " * 1024 * 1024
        with self.assertRaises(SitemapFailed):
            for _ in range(101):
                parser.feed(spaces)


class SitemapSourceTests(SynchronousTestCase):
    def read(self, pages, *start, headers=Headers()):  # noqa: B008 - frozen
        self.world = world = World(pages, Policy(obey_robots=False))
        failed = []
        source = SitemapSource(world.fetcher, start, failed.append, headers)

        async def read_all():
            found = []
            while batch := await source.next_batch():
                found += batch
            return found

        reading = Deferred.fromCoroutine(read_all())
        world.run(20)
        return self.successResultOf(reading), failed

    def test_an_index_is_followed_in_order_and_each_sitemap_read_once(self):
        pages = {
            "http://a/i.xml": Page(
                sitemap("http://a/1.xml", "http://a/i.xml", "http://a/2.xml", kind="sitemap")
            ),
            "http://a/1.xml": Page(sitemap("http://a/x", "http://a/y")),
            "http://a/2.xml": Page(sitemap("http://a/z")),
        }
        found, failed = self.read(pages, "http://a/i.xml")
        self.assertEqual((found, failed), (["http://a/x", "http://a/y", "http://a/z"], []))

    def test_a_sitemap_that_fails_is_reported_and_the_others_are_read(self):
        pages = {
            "http://a/1.xml": Page(b"hello"),
            "http://a/2.xml": Page(sitemap("http://a/x")[:-3]),
            "http://a/3.xml": Page(b"gone", status=404),
            "http://a/4.xml": Page(sitemap("http://a/z")),
            "http://a/5.xml": Page(b"", status=204),
        }
        found, failed = self.read(pages, *reversed(pages), "no url")
        self.assertEqual(found, ["http://a/z", "http://a/x"])  # which came before the cut
        names = [type(result.error).__name__ for result in failed]
        expected = ["SitemapFailed", "BadStatus", "SitemapFailed", "SitemapFailed", "BadURL"]
        self.assertEqual(names, expected)

    def test_a_sitemap_that_is_cut_off_in_any_way_gives_its_whole_urls(self):
        data = sitemap("http://a/x", "http://a/y", "http://a/z")
        text = b"http://a/x\nhttp://a/y\nhttp://a/zzz"
        table = [
            (Page(data[: data.index(b"http://a/z")]), SitemapFailed),
            (Page(data.removesuffix(b"</urlset>")), SitemapFailed),
            (Page(gzip.compress(data)[:-4]), SitemapFailed),
            (Page(data[:-30], error=TruncatedBody("cut")), TruncatedBody),
            (Page(text, error=TruncatedBody("cut")), TruncatedBody),
            (Page(data[:-30], error=CorruptBody("cut")), CorruptBody),
        ]
        for page, error in table:
            found, failed = self.read({"http://a/s": page}, "http://a/s")
            self.assertEqual(found[:2], ["http://a/x", "http://a/y"], page)
            self.assertNotIn("http://a/zzz", found)
            self.assertEqual([type(result.error) for result in failed], [error], page)

    def test_a_sitemap_that_is_nearly_xml_does_not_fail(self):
        data = b"<urlset><url><loc>http://a/?x=1&y=2</loc></url></urlset>"
        self.assertEqual(
            self.read({"http://a/": Page(data)}, "http://a/"), (["http://a/?x=1&y=2"], [])
        )

    def test_relative_urls_are_those_of_the_site(self):
        pages = {
            "http://a/i": redirect("http://b/x/i"),
            "http://b/x/i": Page(sitemap("/s.xml", kind="sitemap")),
            "http://b/s.xml": Page(sitemap("/1", "./2", "//c/3", "c/4", "ftp://d/5")),
        }
        found, failed = self.read(pages, "http://a/i")
        self.assertEqual(found, ["http://b/1", "http://b/2", "http://c/3", "c/4", "ftp://d/5"])
        self.assertEqual(failed, [])

    def test_indexes_that_lead_on_for_ever_end(self):
        def index(request):
            return Page(sitemap(f"{request.url}x", kind="sitemap"))

        pages = {"http://a/" + "x" * number: index for number in range(99)}
        found, failed = self.read(pages, "http://a/")
        self.assertEqual((found, len(failed)), ([], 1))
        self.assertIn("more than 5 indexes lead to it", str(failed[0].error))

    def test_headers_of_a_run_are_sent_but_not_those_for_pages_only(self):
        headers = Headers([(b"X-A", b"1"), (b"Range", b"bytes=1-"), (b"Accept", b"image/png")])
        self.read({"http://a/": Page(sitemap())}, "http://a/", headers=headers)
        self.assertEqual(self.world.client.requests[0].headers.lines, [(b"X-A", b"1")])
