from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.inspect.options import USAGES, Options
from evserve.inspect.verbs import VERBS


def parse(*words):
    options = Options()
    options.parseOptions(words)
    return options


class OptionsTests(SynchronousTestCase):
    def test_every_verb_can_be_run(self):
        self.assertEqual(USAGES.keys(), VERBS.keys() | {"move"})

    def test_without_a_verb_it_lists(self):
        options = parse("--queue=sqlite:q")
        self.assertEqual((options["verb"], options["words"]), ("list", []))

    def test_numbers_are_read(self):
        self.assertEqual(parse("--queue=q:", "kick", "mail", "7")["words"], ["mail", 7])
        self.assertEqual(parse("--queue=q:", "pause", "mail", "60")["words"], ["mail", 60])

    def test_the_help_names_every_verb(self):
        shown = Options().getUsage()
        for name, each in USAGES.items():
            self.assertIn(f"\n  {name} {each.text} ", shown)

    def test_mistakes_are_refused_in_one_line(self):
        for words, problem in (
            ("list", "say which queue: --queue URL"),
            ("--queue= list", "say which queue: --queue URL"),
            ("--queue=q: lsit", "no verb 'lsit' (list, peek, kick,"),
            ("--queue=q: peek", "peek: name a type or --id ID"),
            ("--queue=q: peek a b", "peek: expected peek TYPE | --id ID"),
            ("--queue=q: --id=1 peek a", "peek: name a type or --id ID, and not both"),
            ("--queue=q: --id=1 --state=ready peek", "--state: of a type"),
            ("--queue=q: --raw --json peek a", "--raw and --json exclude each other"),
            ("--queue=q: kick", "kick: expected kick TYPE [N]"),
            ("--queue=q: kick a many", "kick many: not a whole number"),
            ("--queue=q: --all kick a 5", "kick: a number or --all"),
            ("--queue=q: delete", "delete: name ids or --type TYPE"),
            ("--queue=q: --type=a delete 5", "delete: name ids or --type TYPE, and not both"),
            ("--queue=q: --yes delete 5", "--yes: with --type"),
            ("--queue=q: --failed replay 5", "--failed: with --type"),
            ("--queue=q: --limit=5 replay 5", "--limit: with --type"),
            ("--queue=q: --limit=5 list", "--limit: needs --done"),
            ("--queue=q: --done list a b", "list --done: one type"),
            ("--queue=q: pause a", "pause: expected pause TYPE SECONDS"),
            ("--queue=q: pause a soon", "pause soon: not a whole number"),
            ("--queue=q: drain now", "drain: expected drain [--off]"),
            ("--queue=q: --all list", "--all: not an option of list"),
            ("--queue=q: move", "move: name two queues: --from URL --to URL"),
            ("--from=q: move", "move: name two queues: --from URL --to URL"),
            ("--from=q: --to=r: --queue=q: move", "move: name two queues"),
            ("--from=q: --to=r: list", "--from: not an option of list"),
        ):
            error = self.assertRaises(UsageError, parse, *words.split())
            self.assertTrue(str(error).startswith(problem), f"{words}: {error}")
