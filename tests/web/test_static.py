"""Files are answered as by `twisted.web.static.File` alone."""

import io
import os
import re
from pathlib import Path

from twisted.internet import _producer_helpers
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock, Cooperator
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import static
from twisted.web.resource import Resource, _IEncodingResource
from twisted.web.server import Site
from zope.interface import alsoProvides, implementer

from evserve.web import fast
from evserve.web.static import SMALL


PEER = IPv4Address("TCP", "127.0.0.1", 1234)


class Processed(Resource):
    isLeaf = True

    def __init__(self, path, registry):
        super().__init__()
        self.path = path

    def render_GET(self, request):
        return f"processed {self.path} {request.prepath} {request.postpath}".encode()


class Sender:
    """Has a site answer one request after another; files are read by its own clock."""

    def __init__(self, case, site):
        self.site = site
        self.clock = site.reactor
        cooperator = Cooperator(scheduler=lambda work: self.clock.callLater(0, work))
        case.patch(_producer_helpers, "cooperate", cooperator.cooperate)

    def send(self, request):
        channel = self.site.buildProtocol(PEER)
        transport = StringTransport(hostAddress=PEER, peerAddress=PEER)
        channel.makeConnection(transport)
        channel.dataReceived(request)
        for _ in range(100):
            self.clock.advance(0)
        return re.sub(rb"\r\nDate: [^\r]+", b"", transport.value())


class DifferentialCase(SynchronousTestCase):
    """Sends each request to a stock site and to a fast one."""

    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.steps = []
        self.patch(os, "read", self.spied("read", os.read))

    def spied(self, name, function):
        def call(*arguments):
            self.steps.append(name)
            return function(*arguments)

        return call

    def write(self, name, data=b"x", mtime=1_000_000_000):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (mtime, mtime))
        return path

    def root(self):
        return static.File(str(self.folder))

    def answers(self, path, method=b"GET", fields=b"", root=None):
        """Return the answers of a stock site and of a fast one, and whether that was fast."""
        request = b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, path, fields)
        make = root or self.root
        stock = Sender(self, Site(make(), reactor=Clock())).send(request)
        self.steps.clear()
        answer = Sender(self, fast(Site(make(), reactor=Clock()))).send(request)
        return stock, answer, bool(self.steps)

    def same(self, path, *words, **how):
        """Return the answer, and whether it was fast."""
        stock, answer, was_fast = self.answers(path, *words, **how)
        self.assertEqual(answer, stock, path)
        self.assertTrue(stock)
        self.flushLoggedErrors()
        return answer, was_fast

    def is_fast(self, path, *words, **how):
        self.assertTrue(self.same(path, *words, **how)[1], path)

    def is_stock(self, path, *words, **how):
        self.assertFalse(self.same(path, *words, **how)[1], path)


class SmallFileTests(DifferentialCase):
    def test_small_files_are_fast(self):
        for name, size in (("a.txt", 1), ("b/c/d.html", 1000), ("e", SMALL), ("f.css", 0)):
            self.write(name, b"x" * size)
            self.is_fast(f"/{name}".encode())

    def test_large_files_are_not(self):
        self.write("large.txt", b"x" * (SMALL + 1))
        self.is_stock(b"/large.txt", fields=b"Connection: close\r\n")
        self.assertIn(b"x" * (SMALL + 1), self.same(b"/large.txt")[0])

    def test_names_are_decoded(self):
        for name in ("two words.txt", "öl.txt", "a;b?c#d", "a.b.c", "b.", "%41", "v1.2/x"):
            self.write(name)
            quoted = "".join(f"%{each:02x}" for each in name.replace("/", "\n").encode())
            self.is_fast(b"/" + quoted.replace("%0a", "/").encode())

    def test_types_and_encodings(self):
        for name in (
            *("a.html", "a.HTML", "a.Tar.GZ", "a.txt.gz", "a.bz2", "a.gz", "a", "a.unknown", "a."),
            *("b..txt", "a.svg", "a.gz.txt", "gz"),
        ):
            self.write(name)
            self.is_fast(f"/{name}".encode())

    def test_settings_of_the_folder_are_honoured(self):
        self.write("a.unknown")
        self.write("a.txt")

        def root():
            made = static.File(str(self.folder), defaultType="x/default")
            made.contentTypes = {".txt": "x/of-the-folder"}  # and of it alone
            return made

        self.assertIn(b"x/default", self.same(b"/a.unknown", root=root)[0])
        self.assertIn(b"text/plain", self.same(b"/a.txt", root=root)[0])

    def test_settings_of_a_single_file_are_honoured(self):
        path = self.write("a.txt")

        def root(**values):
            made = Resource()
            file = static.File(str(path))
            vars(file).update(values)
            made.putChild(b"f", file)
            return made

        self.is_fast(b"/f", root=root)
        for values in (
            {"contentTypes": {".txt": "x/y"}, "contentEncodings": {".txt": "x"}},
            {"type": "x/y", "encoding": None},
            {"type": "x/y", "encoding": "gzip"},
            {"type": "", "encoding": None},
        ):
            self.is_fast(b"/f", root=lambda values=values: root(**values))
        self.is_stock(b"/f/", root=root)
        self.is_stock(b"/f/g", root=root)

    def test_a_single_file_keeps_its_type_as_in_stock(self):
        file = static.File(str(self.write("a.txt")))
        root = Resource()
        root.putChild(b"f", file)
        self.same(b"/f", root=lambda: root)
        self.assertEqual((file.type, file.encoding), ("text/plain", None))

    def test_the_request_says_where_its_path_ended(self):
        self.write("b/c.txt")
        seen = []
        for change in (lambda site: site, fast):
            site = change(Site(self.root(), reactor=Clock()))
            site.log = lambda request: seen.append((request.prepath, request.postpath))
            Sender(self, site).send(b"GET /b/c.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(seen, [([b"b", b"c.txt"], [])] * 2)


class MethodTests(DifferentialCase):
    def setUp(self):
        super().setUp()
        self.write("a.txt", b"hello")
        self.write("empty.txt", b"")

    def test_head(self):
        for name in (b"/a.txt", b"/empty.txt"):
            self.is_fast(name, b"HEAD")

    def test_other_methods(self):
        for method in (b"POST", b"PUT", b"OPTIONS", b"BREW"):
            self.is_stock(b"/a.txt", method)

    def test_conditional_requests(self):
        for method in (b"GET", b"HEAD"):
            for value in (
                *(b"Sun, 09 Sep 2001 01:46:40 GMT", b"Sun, 09 Sep 2001 01:46:39 GMT"),
                *(b"Sun, 09 Sep 2041 01:46:40 GMT; length=3", b"not a date", b""),
            ):
                for name in (b"/a.txt", b"/empty.txt"):
                    self.is_fast(name, method, b"If-Modified-Since: %b\r\n" % value)

    def test_a_broken_second_is_rounded_up(self):
        os.utime(self.folder / "a.txt", (1_000_000_000.5, 1_000_000_000.5))
        for value in (b"Sun, 09 Sep 2001 01:46:41 GMT", b"Sun, 09 Sep 2001 01:46:40 GMT"):
            self.is_fast(b"/a.txt", fields=b"If-Modified-Since: %b\r\n" % value)
        os.utime(self.folder / "a.txt", (-1.5, -1.5))  # before 1970
        self.is_fast(b"/a.txt")

    def test_ranges_are_stock(self):
        for value in (b"bytes=0-1", b"bytes=9-", b"nonsense", b"bytes=-2"):
            self.is_stock(b"/a.txt", fields=b"Range: %b\r\n" % value)

    def test_http_1_0(self):
        for change in (lambda site: site, fast):
            site = change(Site(self.root(), reactor=Clock()))
            answer = Sender(self, site).send(b"GET /a.txt HTTP/1.0\r\n\r\n")
            self.assertTrue(answer.endswith(b"\r\n\r\nhello"))

    def test_what_the_way_has_set_stays(self):
        class Setting(Resource):
            def getChildWithDefault(self, name, request):
                request.setResponseCode(404)
                request.setETag(b"tag")
                request.addCookie(b"a", b"b")
                request.setHeader(b"content-type", b"x/y")
                request.setLastModified(1_111_111_111)
                return self.inner.getChildWithDefault(name, request)

        class SettingHeader(Setting):
            def getChildWithDefault(self, name, request):
                request.setHeader(b"last-modified", b"never")
                return self.inner.getChildWithDefault(name, request)

        def root(cls):
            made = cls()
            made.inner = Resource()
            made.inner.putChild(b"f", self.root())
            return made

        for cls in (Setting, SettingHeader):
            for method in (b"GET", b"HEAD"):
                self.is_fast(b"/f/a.txt", method, root=lambda cls=cls: root(cls))


class FolderTests(DifferentialCase):
    def test_index_files(self):
        self.write("index.html", b"1")
        self.write("b/index", b"2")
        self.write("c/index.htm", b"3")
        for path in (b"/", b"/b/", b"/c/", b"/?x=/"):
            self.is_fast(path)
        self.is_fast(b"/", b"HEAD")

    def test_index_files_of_other_names(self):
        self.write("b/start.txt")
        for names in (["none", "start.txt"], ["none"], [], ["../a", "b"], ["start.txt/"], [".x"]):

            def root(names=names):
                made = self.root()
                made.indexNames = names
                return made

            self.same(b"/b/", root=root)
            self.same(b"/", root=root)

    def test_an_index_that_is_no_file(self):
        (self.folder / "index").mkdir()
        self.write("index.html")
        self.is_stock(b"/")
        (self.folder / "b").mkdir()
        (self.folder / "b" / "index").symlink_to("nowhere")
        self.write("b/index.html")
        self.is_fast(b"/b/")

    def test_folders(self):
        self.write("b/x y.txt")
        for path in (b"/", b"/b", b"/b/", b"/b?x=1", b"/b//", b"//b", b"/b//x%20y.txt"):
            self.is_stock(path)

    def test_what_is_not_there(self):
        self.write("a.txt")
        for path in (b"/none", b"/a.txt/", b"/a.txt/b", b"/none/a.txt", b"/" + b"x" * 300):
            self.is_stock(path)

        def root():
            made = self.root()
            made.childNotFound = static.Data(b"no such file", "text/plain")
            return made

        self.is_stock(b"/none", root=root)
        self.is_stock(b"/none/none", root=root)

    def test_paths_that_might_leave_the_folder(self):
        self.write("a.txt")
        self.write("b/c.txt")
        (self.folder.parent / f"{self.folder.name}.txt").write_bytes(b"secret")
        for path in (
            *(b"/../a.txt", b"/b/../a.txt", b"/..", b"/b/..", b"/./a.txt", b"/b/.", b"/."),
            *(b"/%2e%2e/a.txt", b"/b%2fc.txt", b"/a.txt%2f", b"/%2fetc%2fpasswd", b"/b/%2e/c.txt"),
            *(b"/a.txt%00", b"/%00", b"/b/%00/c.txt", b"/%ff", b"/a%ff.txt", b"/b/%2f"),
            *(b"/..%2fa.txt", b"//etc/passwd", b"/b/%2f/c.txt", b"/%2e%2e%2f.txt"),
        ):
            self.is_stock(path)

    def test_hidden_files_are_stock(self):
        for name in (".txt", ".rpy", "b/.c", "...", "..a.txt"):
            self.write(name)
            self.is_stock(f"/{name}".encode())

    def test_ignored_extensions(self):
        self.write("a.txt")
        self.write("b")
        for extensions in ([".txt"], ["*"], [".none", ".txt"]):

            def root(extensions=extensions):
                return static.File(str(self.folder), ignoredExts=extensions)

            self.is_stock(b"/a", root=root)
            self.is_fast(b"/a.txt", root=root)
            self.is_fast(b"/b", root=root)

    def test_processors(self):
        for name in ("a.rpy", "b.rpy/c.txt", "d/index.rpy", "a.txt"):
            self.write(name)

        def root():
            made = self.root()
            made.processors = {".rpy": Processed}
            return made

        for path in (b"/a.rpy", b"/b.rpy/c.txt", b"/d/", b"/a.rpy/x"):
            self.is_stock(path, root=root)
        self.is_fast(b"/a.txt", root=root)

    def test_children_come_before_files(self):
        self.write("a.txt", b"file")
        self.write("c/d.txt", b"below")

        def root():
            made = self.root()
            made.putChild(b"a.txt", static.Data(b"child", "text/plain"))
            made.putChild(b"b", static.File(str(self.folder / "c")))
            return made

        self.is_stock(b"/a.txt", root=root)
        self.is_fast(b"/b/d.txt", root=root)
        self.is_fast(b"/c/d.txt", root=root)
        self.is_stock(b"/b/none", root=root)

    def test_a_resource_on_the_way_may_replace_the_rest_of_the_path(self):
        self.write("b/c.txt", b"content")

        class Rewriting(Resource):
            def getChild(self, name, request):
                request.postpath = [b"b", b"c.txt"]
                return self.inner

        def root():
            made = Rewriting()
            made.inner = self.root()
            return made

        self.is_fast(b"/anything", root=root)
        self.is_fast(b"/any/thing", root=root)

    def test_the_root_of_the_file_system(self):
        self.write("a.txt")
        path = str(self.folder.resolve() / "a.txt").encode()
        self.same(path, root=lambda: static.File("/"))


class OtherKindsTests(DifferentialCase):
    def test_links_are_followed(self):
        self.write("b/a.txt")
        (self.folder / "link.html").symlink_to("b/a.txt")
        (self.folder / "folder").symlink_to("b")
        (self.folder / "broken").symlink_to("nowhere")
        (self.folder / "loop").symlink_to("loop")
        self.is_fast(b"/link.html")
        self.is_fast(b"/folder/a.txt")
        self.is_stock(b"/broken")
        self.is_stock(b"/loop")

    def test_a_file_that_may_not_be_opened(self):
        path = self.write("a.txt")
        real = os.open

        def refusing(name, *arguments, **named):
            if str(name).endswith("a.txt"):
                raise PermissionError(13, "no")
            return real(name, *arguments, **named)

        self.patch(os, "open", refusing)
        self.patch(static.File, "openForReading", lambda file: refusing(file.path, os.O_RDONLY))
        self.assertIn(b"403 Forbidden", self.same(b"/a.txt")[0])
        self.assertTrue(path.exists())

    def test_a_device_is_stock(self):
        (self.folder / "null").symlink_to("/dev/null")
        self.is_stock(b"/null")

    def test_a_fifo_does_not_block_and_is_stock(self):
        os.mkfifo(self.folder / "fifo")
        self.patch(static.File, "openForReading", lambda _: io.BytesIO())
        self.is_stock(b"/fifo")

    def test_files_whose_size_is_not_told_are_stock(self):
        for root in (lambda: static.File("/proc/self"), lambda: static.File("/sys/kernel/mm")):
            stock, answer, _ = self.answers(b"/limits", root=root)
            self.assertEqual(answer, stock)

    def test_a_file_that_changes_meanwhile_is_read_again(self):
        path = self.write("a.txt", b"12345")
        real = os.fstat
        for size in (3, 8):
            path.write_bytes(b"12345")

            def changing(descriptor, size=size):
                found = real(descriptor)
                path.write_bytes(b"x" * size)
                return found

            self.patch(os, "fstat", changing)
            answer = Sender(self, fast(Site(self.root(), reactor=Clock()))).send(
                b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            self.patch(os, "fstat", real)
            head, _, body = answer.partition(b"\r\n\r\n")
            self.assertEqual(body, b"x" * size)
            self.assertIn(b"Content-Length: %d\r\n" % size, head)


class SubclassTests(DifferentialCase):
    def setUp(self):
        super().setUp()
        self.write("a.txt", b"hello")

    def test_a_subclass_is_stock(self):
        class Upper(static.File):
            def openForReading(self):
                file = super().openForReading()
                file.read(2)
                return file

        class Child(static.File):
            def getChild(self, path, request):
                return static.Data(b"child", "text/plain")

        class Leaf(static.File):
            isLeaf = True

        class Mixin:
            def getFileSize(self):
                return 2

        class Mixed(Mixin, static.File):
            pass

        @implementer(_IEncodingResource)
        class Encoding(static.File):
            def getEncoder(self, request):
                return None

        class Settings(static.File):
            contentTypes = {".txt": "x/y"}

        for cls in (Upper, Child, Leaf, Mixed, Encoding, Settings):
            self.is_stock(b"/a.txt", root=lambda cls=cls: cls(str(self.folder)))

    def test_a_file_with_attributes_of_its_own_is_stock(self):
        def rendering(request):
            return b"other"

        for values in ({"getChild": lambda *_: static.Data(b"x", "a/b")}, {"isLeaf": True}):

            def root(values=values):
                made = self.root()
                vars(made).update(values)
                return made

            self.is_stock(b"/a.txt", root=root)

        def single():
            made = Resource()
            file = static.File(str(self.folder / "a.txt"))
            file.render = rendering
            made.putChild(b"f", file)
            return made

        self.is_stock(b"/f", root=single)

    def test_a_file_that_provides_an_encoder_is_stock(self):
        def root():
            made = Resource()
            file = static.File(str(self.folder / "a.txt"))
            file.getEncoder = lambda _: None
            alsoProvides(file, _IEncodingResource)
            made.putChild(b"f", file)
            return made

        self.is_stock(b"/f", root=root)
