"""The config file, and what is said about each mistake in it."""

from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.config import Table, arguments_from, parse_table, read_config
from evserve.host.schema import Schema


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
                Table("echo", "echo", {"port": 1}, f"{self.path}: [services.echo]"),
                Table("web", "web", {}, f"{self.path}: [services.web]"),
            ),
        )

    def test_a_table_may_name_its_plugin(self):
        (table,) = self.read("[services.loud]\nplugin = 'echo'\nport = 1").services
        self.assertEqual((table.name, table.plugin, table.settings), ("loud", "echo", {"port": 1}))

    def test_the_host_table_may_be_left_out(self):
        self.assertEqual(self.read("[services.echo]").host, {})

    def test_editors_of_windows_are_forgiven(self):
        (table,) = self.read(b"\xef\xbb\xbf[services.echo]\r\nport = 1\r\n").services
        self.assertEqual(table.settings, {"port": 1})

    def test_a_name_may_be_any_that_can_be_printed(self):
        (table,) = self.read("[services.'Büro 2']\nplugin = 'echo'").services
        self.assertEqual(
            (table.name, table.where), ("Büro 2", f'{self.path}: [services."Büro 2"]')
        )

    def test_each_mistake_is_one_line(self):
        missing = "no service: write a table such as [services.echo]"
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

    def test_an_empty_name_is_shown_as_such(self):
        self.assertEqual(self.refusal(""), "'': Is a directory")


class ParseTests(SynchronousTestCase):
    def parse(self, settings):
        options = Options()
        parse_table(options, settings, "f.toml: [services.x]")
        return options

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

    def test_arguments_keep_the_order_of_the_file(self):
        arguments = arguments_from({"word": "a", "loud": True}, Schema(Options()), "here")
        self.assertEqual(arguments, [("word", "a"), ("loud", None)])
