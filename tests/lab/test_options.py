"""Options on the command line, and the files that they name."""

from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.options import Options


def options(*words):
    found = Options()
    found.parseOptions(words)
    return found


class OptionsTests(SynchronousTestCase):
    def test_the_defaults(self):
        found = options()
        self.assertEqual(found.counts, (1, 10, 100, 1_000, 3_000, 10_000))
        self.assertEqual(len(found.models), 20)
        self.assertEqual((found.report, found.json), (Path("lab.html"), Path("lab.json")))

    def test_lists(self):
        found = options("--models", "blocking, poll_loop", "--connections", "100,1, 10,1")
        self.assertEqual([model.name for model in found.models], ["blocking", "poll_loop"])
        self.assertEqual(found.counts, (1, 10, 100))

    def test_the_json_is_beside_the_report_unless_an_option_says_otherwise(self):
        self.assertEqual(options("--report", "a/b.html").json, Path("a/b.json"))
        self.assertEqual(options("--json", "x").json, Path("x"))
        self.assertIsNone(options("--json", "-").json)
        self.assertIsNone(options("--from", "x.json").json)

    def test_a_mistake_is_refused(self):
        for words, part in (
            (["--connections", "0"], "not numbers of connections"),
            (["--connections", "1,,2"], "not numbers of connections"),
            (["--connections", "9999999"], "not numbers of connections"),
            (["--seconds", "0"], "not a number of seconds"),
            (["--seconds", "nan"], "not a number of seconds"),
            (["--seconds", "x"], "not a number of seconds"),
            (["--models", "blocking,,"], "not a comma-separated list of names"),
            (["--models", "blockin"], "--models: no model named 'blockin'; did you mean"),
            (["--from", "x", "--list"], "--from measures nothing: leave out --list"),
            (["--report", ""], "--report '': not a file name"),
            (["--json", ""], "--json '': not a file name"),
            (["--from", ""], "--from '': not a file name"),
            (["--report", "a\0b"], r"--report 'a\x00b': not a file name"),
            (["--report", "-"], "--report -: the page needs a file (--json - writes JSON)"),
            (["--report", "x", "--json", "./x"], "--report and --json are the same file: x"),
            (["--report", "x.json"], "--report and --json are the same file: x.json"),
            (["--from", "x", "--report", "x"], "--report and --from are the same file: x"),
            (["--from", "x", "--json", "x"], "--json and --from are the same file: x"),
        ):
            problem = self.assertRaises(UsageError, options, *words)
            self.assertIn(part, str(problem))

    def test_links_to_one_file_are_the_same_file(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        made, hard, soft = (folder / name for name in ("made", "hard", "soft"))
        soft.symlink_to("made")
        words = ("--report", str(soft), "--json", str(made))
        self.assertRaises(UsageError, options, *words)
        made.touch()
        hard.hardlink_to(made)
        self.assertRaises(UsageError, options, *words)
        self.assertRaises(UsageError, options, "--from", str(hard), "--json", str(made))
