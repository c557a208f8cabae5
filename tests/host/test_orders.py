"""From words and tables to services with parsed options."""

from attrs import frozen
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.config import Table
from evserve.host.options import LISTENING_PARAMETERS
from evserve.host.orders import order_from_table, order_from_words
from evserve.interfaces import LoadedService
from evserve.plugin import Broken, Catalogue, Found, PluginError


class Shout(usage.Options):
    optFlags = [["loud", "l", "Louder"]]
    optParameters = [["times", None, 1, "How often", int]]
    default_port = 0

    def postOptions(self):
        if self["times"] > 9:
            raise usage.UsageError("that is too often")


class Fetch(usage.Options):
    optParameters = [["retries", None, 1, "How often", int]]

    def parseArgs(self, *urls):
        self["urls"] = urls


class Nested(usage.Options):
    subCommands = [("inner", None, Fetch, "Inner")]


class Host(usage.Options):
    optFlags = [["check", None, "Check"]]
    optParameters = [["drain", None, 10, "Drain", int], *LISTENING_PARAMETERS]


@frozen
class Plugin:
    """A service plugin that is always loaded."""

    name: str
    options: type
    listens: bool = True
    stateless: bool = False
    description: str = ""
    module: str = "x"

    def load(self):
        if self.name == "broken":
            raise PluginError("no luck")
        return LoadedService(self.options, print)


PLUGINS = [
    Plugin("shout", Shout),
    Plugin("fetch", Fetch, listens=False),
    Plugin("nested", Nested, listens=False),
    Plugin("quiet", Fetch),
    Plugin("broken", Fetch),
]
CATALOGUE = Catalogue(
    {each.name: Found(each, "/p") for each in PLUGINS}, (Broken("bad", "/p/bad.py", "no"),)
)


class WordsTests(SynchronousTestCase):
    def order(self, words, listening=()):
        name, *rest = words.split()
        return order_from_words(name, rest, list(listening), CATALOGUE, Host())

    def options(self, words, listening=()):
        return self.order(words, listening)[0].options

    def refusal(self, words, listening=()):
        return str(self.assertRaises(usage.UsageError, self.order, words, listening))

    def test_what_stands_after_the_name_is_the_services(self):
        options = self.options("shout --times 3 -l --port 7")
        self.assertEqual((options["times"], options["loud"], options["port"]), (3, 1, 7))

    def test_what_stands_before_it_counts_too_and_the_later_wins(self):
        self.assertEqual(self.options("shout", [("port", "7")])["port"], 7)
        self.assertEqual(self.options("shout --port 8", [("port", "7")])["port"], 8)

    def test_options_of_the_host_are_handed_back(self):
        order, ours = self.order("shout --drain 3 --times 2 --check")
        self.assertEqual(ours, [("drain", "3"), ("check", None)])
        self.assertEqual(order.options["times"], 2)

    def test_options_may_stand_among_positional_arguments(self):
        options = self.options("fetch a --retries 3 b -- --c")
        self.assertEqual((options["urls"], options["retries"]), (("a", "b", "--c"), 3))

    def test_a_service_with_commands_of_its_own_gets_all_the_words(self):
        order, ours = self.order("nested inner --retries 3 a")
        self.assertEqual((order.options.subOptions["retries"], ours), (3, []))

    def test_the_host_is_the_parent_of_the_options(self):
        order, _ = self.order("shout")
        self.assertEqual(order.options.parent.subCommand, "shout")
        self.assertEqual((order.name, order.plugin.name), ("shout", "shout"))

    def test_each_mistake_names_the_service(self):
        table = {
            "shout --times x": "shout: --times 'x': invalid literal for int() with base 10: 'x'",
            "shout --tims 3": "shout: option --tims not recognized; did you mean 'times'?",
            "shout --times 10": "shout: that is too often",
            "shout extra": "shout: unexpected argument 'extra'",
            "shout --listen smoke:": "shout: bad endpoint 'smoke:': unknown kind "
            "(known: tcp, ssl, tls, unix, systemd, haproxy)",
            "quiet": "quiet: where should it listen? Give --port N or --listen ENDPOINT",
            "fetch --port 7": "fetch: it has no option --port",
            "shuot": "no service named 'shuot'; did you mean 'shout'?",
            "zzz": "no service named 'zzz' ('twistd -n evserve services' lists them)",
        }
        for words, message in table.items():
            self.assertEqual(self.refusal(words), message)

    def test_listening_options_mean_nothing_to_a_job(self):
        for option in ("listen", "port", "max-connections"):
            message = f"fetch: it has no option --{option}"
            self.assertEqual(self.refusal("fetch", [(option, "1")]), message)

    def test_a_refused_folder_may_be_why_a_service_is_not_there(self):
        catalogue = Catalogue({}, (Broken("", "/p", "not loading plugins from /p"),))
        error = self.assertRaises(
            usage.UsageError, order_from_words, "zzz", [], [], catalogue, Host()
        )
        self.assertEqual(str(error), "no service named 'zzz'; not loading plugins from /p")

    def test_a_broken_plugin_says_why(self):
        for name, message in (
            ("broken", "'broken' cannot be used: no luck"),
            ("bad", "'bad' cannot be used: no (/p/bad.py)"),
        ):
            error = self.assertRaises(PluginError, self.order, name)
            self.assertEqual(str(error), message)


class TableTests(SynchronousTestCase):
    def order(self, plugin, **settings):
        table = Table("mine", plugin, settings, "f: [services.mine]")
        return order_from_table(table, CATALOGUE, Host())

    def refusal(self, plugin, **settings):
        return str(self.assertRaises(usage.UsageError, self.order, plugin, **settings))

    def test_a_table_is_a_service_under_its_own_name(self):
        order = self.order("shout", times=3, listen=["tcp:1", "tcp:2"])
        self.assertEqual((order.name, order.plugin.name), ("mine", "shout"))
        self.assertEqual(
            (order.options["times"], order.options["listen"]), (3, ["tcp:1", "tcp:2"])
        )

    def test_each_mistake_names_file_and_table(self):
        for message, plugin, settings in (
            ("no service named 'shuot'; did you mean 'shout'?", "shuot", {}),
            ("'broken' cannot be used: no luck", "broken", {}),
            ("unknown key 'tims'; did you mean 'times'?", "shout", {"tims": 1}),
            ("where should it listen? Give --port N or --listen ENDPOINT", "quiet", {}),
        ):
            self.assertEqual(self.refusal(plugin, **settings), f"f: [services.mine] {message}")
