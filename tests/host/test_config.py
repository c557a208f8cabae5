"""From a command line or config file to services, and the message for each mistake."""

from pathlib import Path

from attrs import frozen
from twisted.application.service import IServiceMaker
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from evserve.host.config import (
    ServiceConfig,
    ServiceTable,
    arguments_from_table,
    check_conflicts,
    read_config,
    service_from_arguments,
    service_from_table,
)
from evserve.host.options import LISTENING_PARAMETERS, Schema, with_listening_options
from evserve.interfaces import LoadedService
from evserve.plugin import (
    BrokenPlugin,
    Catalogue,
    FoundService,
    PluginError,
    ServiceMakerPlugin,
)


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError("not above 0")
    return int(text)


class Options(usage.Options):
    optFlags = [["loud", None, "Shout"]]
    optParameters = [["times", None, 1, "How often", positive], ["word", None, None, "A word"]]

    def postOptions(self):
        if self["word"] == "no":
            raise usage.UsageError("it says no")


class ReadTests(SynchronousTestCase):
    def setUp(self):
        self.path = self.mktemp()
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)

    def read(self, content):
        if isinstance(content, str):
            content = content.encode()
        Path(self.path).write_bytes(content)
        return read_config(self.path)

    def refusal(self, content):
        message = str(self.assertRaises(usage.UsageError, self.read, content))
        self.assertTrue(message.startswith(f"{self.path}: "), message)
        return message.removeprefix(f"{self.path}: ")

    def test_each_table_is_a_service(self):
        config = self.read("[evserve]\ndrain = 5\n[services.echo]\nport = 1\n[services.web]\n")
        self.assertEqual((config.path, config.host), (self.path, {"drain": 5}))
        self.assertEqual(
            config.services,
            (
                ServiceTable("echo", "echo", {"port": 1}, f"{self.path}: [services.echo]"),
                ServiceTable("web", "web", {}, f"{self.path}: [services.web]"),
            ),
        )

    def test_a_table_may_name_its_plugin(self):
        (table,) = self.read("[services.loud]\nplugin = 'echo'\nport = 1").services
        self.assertEqual((table.name, table.plugin, table.settings), ("loud", "echo", {"port": 1}))

    def test_the_host_table_may_be_left_out(self):
        self.assertEqual(self.read("[services.echo]").host, {})

    def test_a_byte_order_mark_is_ignored(self):
        (table,) = self.read(b"\xef\xbb\xbf[services.echo]\r\nport = 1\r\n").services
        self.assertEqual(table.settings, {"port": 1})

    def test_a_name_may_have_any_printable_characters(self):
        (table,) = self.read("[services.'Büro 2']\nplugin = 'echo'").services
        self.assertEqual(
            (table.name, table.location), ("Büro 2", f'{self.path}: [services."Büro 2"]')
        )

    def test_each_mistake_is_one_line(self):
        missing = "no services (add a table such as [services.echo])"
        table = {
            "": missing,
            "# nothing": missing,
            "[services]": missing,
            "[evserve]": missing,
            "[service.echo]": "unknown table [service]; did you mean 'services'?",
            "['a b']": 'unknown table ["a b"]',
            "services = 1": "services must be a table, [services]",
            "evserve = []": "evserve must be a table, [evserve]",
            "[[services]]": "services must be a table, [services]",
            "services.echo = 1": "[services.echo] must be a table",
            "[services.x]\nplugin = 3": "[services.x] plugin: expected a string, not 3",
            "[services.'']": '[services.""] cannot be the name of a service',
            '[services."a\\nb"]': '[services."a\\nb"] cannot be the name of a service',
            "port = ": "not valid TOML: Invalid value (at end of document)",
            "[services.echo]\nport = 1\nport = 2": (
                "not valid TOML: Cannot overwrite a value (at end of document)"
            ),
            b"\xff\xfe[\0": "not UTF-8 text",
            f"n = {'9' * 5000}": "not valid TOML: too long or too deep",
            f"n = {'[' * 5000}{']' * 5000}": "not valid TOML: too long or too deep",
        }
        for content, message in table.items():
            self.assertEqual(self.refusal(content), message)

    def test_a_null_byte_is_not_toml(self):
        self.assertTrue(self.refusal("[services.echo]\0").startswith("not valid TOML: "))


class PathTests(SynchronousTestCase):
    def refusal(self, path):
        return str(self.assertRaises(usage.UsageError, read_config, path))

    def test_a_file_that_is_not_there_is_named(self):
        self.assertEqual(self.refusal("nowhere.toml"), "nowhere.toml: No such file or directory")

    def test_a_folder_is_no_file(self):
        self.assertEqual(self.refusal("/"), "/: Is a directory")

    def test_an_empty_path_is_shown_in_quotes(self):
        self.assertEqual(self.refusal(""), "'': Is a directory")


class ParseTests(SynchronousTestCase):
    def parse(self, settings):
        table = ServiceTable("x", "x", settings, "f.toml: [services.x]")
        catalogue = Catalogue({"x": FoundService(Plugin("x", Options, listens=False), "/p")}, ())
        return service_from_table(table, catalogue, Host()).options

    def refusal(self, settings):
        return str(self.assertRaises(usage.UsageError, self.parse, settings))

    def test_settings_are_parsed_like_options(self):
        options = self.parse({"loud": True, "times": 3, "word": "--help"})
        self.assertEqual((options["loud"], options["times"], options["word"]), (1, 3, "--help"))

    def test_an_empty_table_keeps_the_defaults(self):
        self.assertEqual(self.parse({})["times"], 1)

    def test_each_mistake_names_table_and_key(self):
        table = [
            ("tiems", 1, "unknown key 'tiems'; did you mean 'times'?"),
            ("zzz", 1, "unknown key 'zzz'"),
            ("times", "x", "times: expected a whole number, not 'x'"),
            ("times", {"a": {"b": 1}}, "times: expected a whole number, not {'a': {'b': 1}}"),
            ("times", 0, "times: '0': not above 0"),
            ("loud", 1, "loud: expected true or false, not 1"),
            ("word", "no", "it says no"),
            ("help", True, "unknown key 'help'"),
        ]
        for key, value, message in table:
            self.assertEqual(self.refusal({key: value}), f"f.toml: [services.x] {message}")

    def test_one_key_has_one_spelling(self):
        schema = Schema(with_listening_options(usage.Options)())
        settings = {"max_connections": 1, "max-connections": 2}
        error = self.assertRaises(usage.UsageError, arguments_from_table, settings, schema)
        self.assertEqual(str(error), "max-connections: is the same key as 'max_connections'")

    def test_arguments_keep_the_order_of_the_file(self):
        arguments = arguments_from_table({"word": "a", "loud": True}, Schema(Options()))
        self.assertEqual(arguments, [("word", "a"), ("loud", None)])


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


class Hosted(Fetch):
    optParameters = [["label", None, None, "A label"]]

    def postOptions(self):
        if self["label"] == "bad":
            raise LookupError("no such label")
        self["command"] = self.parent.subCommand, self.parent["pidfile"]


@implementer(IServiceMaker)
class Maker:
    tapname, description, options, makeService = "hosted", "", Hosted, print


CATALOGUE = Catalogue(
    {each.name: FoundService(each, "/p") for each in (*PLUGINS, ServiceMakerPlugin(Maker()))},
    (BrokenPlugin("bad", "/p/bad.py", "no"),),
)


class ConflictTests(SynchronousTestCase):
    def services(self, *endpoints):
        found = []
        for number, written in enumerate(endpoints):
            options = with_listening_options(usage.Options)()
            options["listen"] = [written]
            found.append(ServiceConfig(f"s{number}", Plugin("x", usage.Options), None, options))
        return found

    def test_two_services_cannot_have_the_same_endpoint(self):
        for first, second in (
            ("tcp:9000", "tcp:9000"),
            ("tcp:9000", "haproxy:ssl:9000"),
            ("tcp:9000:interface=0.0.0.0", "tcp:9000"),
            (r"tcp6:9000:interface=\:\:", "tcp:9000"),
            ("unix:/run/x", "unix:/run/x:mode=600"),
        ):
            error = self.assertRaises(
                usage.UsageError, check_conflicts, self.services(first, second), None
            )
            self.assertEqual(str(error), f"s1: {second!r} is in use: {first!r} of s0")

    def test_endpoints_that_go_together(self):
        check_conflicts(
            self.services(
                *("tcp:0", "tcp:0", "tcp:9000", "tcp6:9000", "tcp:9000:interface=127.0.0.2"),
                *("tcp:9001", "unix:x", "unix:y"),
            ),
            "tcp:9002",
        )
        check_conflicts(self.services("tcp:9000:interface=0.0.0.0", "tcp6:9000"), None)

    def test_the_port_of_another_package_s_endpoint_is_its_own(self):
        check_conflicts(self.services("onion:port=80", "tcp:80", "txsni:certs:port=80"), None)

    def test_the_admin_port_counts_as_well(self):
        error = self.assertRaises(
            usage.UsageError, check_conflicts, self.services("tcp:9100"), "tcp:9100"
        )
        self.assertEqual(str(error), "s0: 'tcp:9100' is in use: 'tcp:9100' of admin")


class HostedTests(SynchronousTestCase):
    """A twistd plugin, whose options find those of twistd above them."""

    def setUp(self):
        self.host = Host()
        self.host.parent = usage.Options()
        self.host.parent["pidfile"] = "twistd.pid"

    def command(self, *words):
        return service_from_arguments("hosted", list(words), [], CATALOGUE, self.host)

    def table(self, **settings):
        table = ServiceTable("mine", "hosted", settings, "f:")
        return service_from_table(table, CATALOGUE, self.host)

    def test_its_parent_is_twistd_in_a_table_too(self):
        for config in (self.command()[0], self.table()):
            self.assertEqual(config.options["command"], ("hosted", "twistd.pid"))

    def test_it_has_limits(self):
        self.assertEqual(self.command("--max-connections=3")[0].options["max-connections"], 3)
        self.assertEqual(self.table(max_connections=3).options["max-connections"], 3)

    def test_words_after_the_first_argument_are_its_own(self):
        config, ours = self.command("--drain=3", "ls", "-l", "--drain=4")
        self.assertEqual(config.options["urls"], ("ls", "-l", "--drain=4"))
        self.assertEqual(ours, [("drain", "3")])

    def test_a_table_has_arguments_too(self):
        self.assertEqual(self.table(arguments=["ls", "-l"]).options["urls"], ("ls", "-l"))
        for value in ("ls", [1], {}):
            error = self.assertRaises(usage.UsageError, self.table, arguments=value)
            expected = f"f: arguments: expected an array of strings, not {value!r}"
            self.assertEqual(str(error), expected)

    def test_options_that_raise_are_one_line(self):
        error = self.assertRaises(usage.UsageError, self.command, "--label=bad")
        self.assertEqual(str(error), "hosted: LookupError: no such label")


class CommandLineTests(SynchronousTestCase):
    def config(self, words, listening=()):
        name, *rest = words.split()
        return service_from_arguments(name, rest, list(listening), CATALOGUE, Host())

    def options(self, words, listening=()):
        return self.config(words, listening)[0].options

    def refusal(self, words, listening=()):
        return str(self.assertRaises(usage.UsageError, self.config, words, listening))

    def test_options_after_the_name_belong_to_the_service(self):
        options = self.options("shout --times 3 -l --port 7")
        self.assertEqual((options["times"], options["loud"], options["port"]), (3, 1, 7))

    def test_listening_options_before_the_name_count_and_later_ones_win(self):
        self.assertEqual(self.options("shout", [("port", "7")])["port"], 7)
        self.assertEqual(self.options("shout --port 8", [("port", "7")])["port"], 8)

    def test_options_of_the_host_are_returned(self):
        config, ours = self.config("shout --drain 3 --times 2 --check")
        self.assertEqual(ours, [("drain", "3"), ("check", None)])
        self.assertEqual(config.options["times"], 2)

    def test_options_may_stand_among_positional_arguments(self):
        options = self.options("fetch a --retries 3 b -- --c")
        self.assertEqual((options["urls"], options["retries"]), (("a", "b", "--c"), 3))

    def test_a_service_with_commands_of_its_own_gets_all_the_words(self):
        config, ours = self.config("nested inner --retries 3 a")
        self.assertEqual((config.options.subOptions["retries"], ours), (3, []))

    def test_the_host_is_the_parent_of_the_options(self):
        config, _ = self.config("shout")
        self.assertEqual(config.options.parent.subCommand, "shout")
        self.assertEqual((config.name, config.plugin.name), ("shout", "shout"))

    def test_each_mistake_names_the_service(self):
        table = {
            "shout --times x": "shout: --times 'x': invalid literal for int() with base 10: 'x'",
            "shout --tims 3": "shout: option --tims not recognized; did you mean 'times'?",
            "shout --times 10": "shout: that is too often",
            "shout extra": "shout: unexpected argument 'extra'",
            "shout --listen smoke:": "shout: bad endpoint 'smoke:': unknown kind "
            "(known: tcp, tcp6, ssl, tls, unix, systemd, haproxy)",
            "quiet": "quiet: no port and no endpoint to listen on "
            "(give --port N or --listen ENDPOINT)",
            "fetch --port 7": "fetch: no such option --port",
            "shuot": "no service named 'shuot'; did you mean 'shout'?",
            "zzz": "no service named 'zzz' ('twistd -n evserve services' lists them)",
        }
        for words, message in table.items():
            self.assertEqual(self.refusal(words), message)

    def test_a_job_has_no_listening_options(self):
        for option in ("listen", "port", "max-connections"):
            message = f"fetch: no such option --{option}"
            self.assertEqual(self.refusal("fetch", [(option, "1")]), message)

    def test_an_unknown_service_shows_that_a_folder_was_refused(self):
        catalogue = Catalogue({}, (BrokenPlugin("", "/p", "not loading plugins from /p"),))
        error = self.assertRaises(
            usage.UsageError, service_from_arguments, "zzz", [], [], catalogue, Host()
        )
        self.assertEqual(str(error), "no service named 'zzz'; not loading plugins from /p")

    def test_a_broken_plugin_is_refused_with_its_cause(self):
        for name, message in (
            ("broken", "'broken' cannot be used: no luck"),
            ("bad", "'bad' cannot be used: no (/p/bad.py)"),
        ):
            error = self.assertRaises(PluginError, self.config, name)
            self.assertEqual(str(error), message)


class ServiceTableTests(SynchronousTestCase):
    def config(self, plugin, **settings):
        table = ServiceTable("mine", plugin, settings, "f: [services.mine]")
        return service_from_table(table, CATALOGUE, Host())

    def refusal(self, plugin, **settings):
        return str(self.assertRaises(usage.UsageError, self.config, plugin, **settings))

    def test_a_table_is_a_service_under_its_own_name(self):
        config = self.config("shout", times=3, listen=["tcp:1", "tcp:2"])
        self.assertEqual((config.name, config.plugin.name), ("mine", "shout"))
        self.assertEqual(
            (config.options["times"], config.options["listen"]), (3, ["tcp:1", "tcp:2"])
        )

    def test_each_mistake_names_file_and_table(self):
        for message, plugin, settings in (
            ("no service named 'shuot'; did you mean 'shout'?", "shuot", {}),
            ("'broken' cannot be used: no luck", "broken", {}),
            ("unknown key 'tims'; did you mean 'times'?", "shout", {"tims": 1}),
            (
                "no port and no endpoint to listen on (give --port N or --listen ENDPOINT)",
                "quiet",
                {},
            ),
            (
                "listen: no endpoint (remove the key to listen on the default port)",
                "shout",
                {"listen": []},
            ),
            (
                "listen: bad endpoint 'tcp:x': 'x' is not a port number (0 to 65535)",
                "shout",
                {"listen": "tcp:x"},
            ),
        ):
            self.assertEqual(self.refusal(plugin, **settings), f"f: [services.mine] {message}")
