"""One URL, several times at once."""

from evserve.fetch.memory import Page
from evserve.fetch.sinks.apart import make_apart
from tests.fetch.sinks.file_case import Case


SIZE = 200_000
BODIES = [bytes([number]) * SIZE for number in range(4)]
URL = "http://a/x"
ETAG = (b"ETag", b'"v1"')


class AtOnceTests(Case):
    def setUp(self):
        super().setUp()
        self.pages = []
        self.begin_run()

    def begin_run(self, **how):
        self.world_ = self.world({URL: lambda _: self.pages.pop(0)}, out=self.pausing, **how)
        self.engine = self.world_.engine
        self.engine.chunk = SIZE // 2

    def pausing(self, out):
        test = self

        class Pausing:
            """A file whose first half is the last for now."""

            is_first = True

            def write(self, data):
                if self.is_first:
                    self.is_first = False
                    test.engine.under_way[-1].pause()
                return out.write(data)

            def close(self):
                out.close()
                if test.is_broken:
                    raise OSError(5, "Input/output error")

        return Pausing()

    is_broken = False

    def begin(self, number=0):
        """Begin a download, up to the middle of its body; return what lets it go on."""
        self.pages.append(Page(BODIES[number], headers=(ETAG,)))
        self.world_.start(URL)
        exchange = self.engine.under_way[-1]
        self.assertTrue(exchange.is_paused)
        return exchange.resume

    def whole(self):
        """Return which bodies are files; -1 is a mixture."""
        found = [path.read_bytes() for path in self.files() if ".part" not in path.name]
        return [BODIES.index(body) if body in BODIES else -1 for body in found]

    def unfinished(self):
        return sorted(path.name.partition(".")[2] for path in self.files() if "." in path.name)

    def test_four_downloads_do_not_write_over_one_another(self):
        first, second, third = (self.begin(number) for number in range(3))
        second()
        self.assertEqual(self.whole(), [1])
        fourth = self.begin(3)
        for number, go_on in ((0, first), (2, third), (3, fourth)):
            go_on()
            self.assertEqual(self.whole(), [number])
        self.assertEqual([result.error for result in self.world_.results], [None] * 4)
        self.assertEqual((len(self.files()), self.store.busy), (1, set()))

    def test_one_that_fails_leaves_the_first_its_notes(self):
        self.begin()
        second = self.begin(1)
        self.is_broken = True
        second()
        self.assertIn("SaveFailed: Input/output error: ", self.world_.results[0].error)
        self.assertEqual(self.unfinished(), ["part", "part.json"])

    def test_what_a_killed_run_left_is_written_over(self):
        for _ in range(2):
            self.begin_run()
            self.begin()
            self.begin()
        self.assertEqual(self.unfinished(), ["part", "part.2", "part.json"])

    def test_another_run_at_the_same_time_writes_elsewhere(self):
        first = self.begin(0)
        apart = make_apart(self.folder)
        self.begin_run(resumes=False, apart=apart)
        second = self.begin(1)
        third = self.begin(2)
        self.assertEqual(self.unfinished(), ["part", "part", "part.2", "part.json"])
        self.assertEqual(len(list(apart.iterdir())), 2)
        third()
        self.assertEqual(self.whole(), [2])
        second()
        self.assertEqual((self.whole(), self.unfinished()), ([1], ["part", "part.json"]))
        first()
        self.assertEqual((self.whole(), self.unfinished()), ([0], []))
