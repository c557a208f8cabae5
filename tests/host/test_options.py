"""Listening options, and the schema of an option class."""

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.options import (
    Limits,
    Parameter,
    ParentOptions,
    Schema,
    address,
    did_you_mean,
    format_arguments,
    parse_arguments,
    set_options,
    with_limit_options,
    with_listening_options,
)
from evserve.options import duration


class AddressTests(SynchronousTestCase):
    def test_an_empty_address_does_not_expose_a_service(self):
        self.assertEqual([address(text) for text in ("::", "127.0.0.1")], ["::", "127.0.0.1"])
        for text in ("", " ", "a\0b", "a\nb"):
            self.assertRaises(ValueError, address, text)


class LimitOptionsTests(SynchronousTestCase):
    def test_a_twistd_plugin_gets_the_limits_beside_its_own_options(self):
        class Options(usage.Options):
            optParameters = [["port", None, "8080", "A port"]]

        parsed = with_limit_options(Options)()
        parsed.parseOptions(["--max-connections=3", "--port=tcp:1"])
        self.assertEqual((parsed["max-connections"], parsed["port"]), (3, "tcp:1"))
        self.assertNotIn("interface", parsed)
        self.assertEqual(parsed.limit_options, ["max-connections", "max-per-peer", "idle-timeout"])

    def test_limits_of_its_own_stay_its_own(self):
        class Options(usage.Options):
            optFlags = [["max-per-peer", None, "A flag"]]
            optParameters = [["idle-timeout", None, "never", "Something else"]]

            def opt_max_connections(self, value):
                self["most"] = value

        parsed = with_limit_options(Options)()
        parsed.parseOptions(["--max-connections=many", "--max-per-peer"])
        self.assertEqual((parsed["most"], parsed["max-per-peer"]), ("many", 1))
        self.assertEqual((parsed["idle-timeout"], parsed.limit_options), ("never", []))

    def test_options_that_are_no_class_are_left_as_they_are(self):
        self.assertIs(with_limit_options(len), len)


class Twistd(usage.Options):
    optParameters = [["pidfile", None, "twistd.pid", "A file"], ["umask", None, None, "A mask"]]


class ParentOptionsTests(SynchronousTestCase):
    def setUp(self):
        self.twistd, self.host, self.own = Twistd(), usage.Options(), usage.Options()
        self.host.parent = self.twistd
        self.twistd.subCommand, self.host.synopsis = "evserve", "[host]"
        self.parent = ParentOptions(self.host, "web", self.own)

    def test_it_reads_those_of_twistd(self):
        parent = self.parent
        self.assertEqual((parent["pidfile"], parent.get("nothing", 7)), ("twistd.pid", 7))
        self.assertRaises(KeyError, parent.__getitem__, "nothing")
        self.assertEqual(dict(parent), dict(self.twistd))
        self.assertEqual((len(parent), "umask" in parent), (2, True))
        self.assertIs(parent.opts, self.twistd)
        self.assertEqual({parent: 1}[parent], 1)
        self.assertEqual(str(parent), str(self.twistd))

    def test_what_it_sets_reaches_twistd(self):
        self.parent["umask"] = 0o22
        self.parent.update(pidfile="x")
        self.parent.extra = 3
        self.assertEqual(self.twistd, {"pidfile": "x", "umask": 0o22})
        self.assertEqual(self.twistd.extra, 3)
        del self.parent["umask"]
        self.assertNotIn("umask", self.twistd)

    def test_only_the_command_is_the_plugin_s_own(self):
        self.assertEqual((self.parent.subCommand, self.twistd.subCommand), ("web", "evserve"))
        self.assertIs(self.parent.subOptions, self.own)
        self.parent.subCommand = "other"
        self.assertEqual((self.parent.subCommand, self.twistd.subCommand), ("other", "evserve"))

    def test_it_passes_for_those_of_twistd(self):
        self.assertIsInstance(self.parent, usage.Options)
        self.assertIsInstance(self.parent, Twistd)

    def test_the_usage_line_shows_what_a_person_types(self):
        self.own.parent = self.parent
        self.assertIn("evserve [host] web [options]", self.own.getSynopsis())


class ListeningOptionsTests(SynchronousTestCase):
    def parse(self, options, words):
        parsed = with_listening_options(options)()
        parsed.parseOptions(words.split())
        return parsed

    def test_a_service_gets_the_listening_options_beside_its_own(self):
        class Options(usage.Options):
            optParameters = [["mark", None, "", "A mark"]]

        parsed = self.parse(Options, "--mark ! --port 7 --listen tcp:1 --listen unix:/x")
        self.assertEqual((parsed["mark"], parsed["port"]), ("!", 7))
        self.assertEqual(parsed["listen"], ["tcp:1", "unix:/x"])
        self.assertEqual(parsed["interface"], "127.0.0.1")

    def test_options_that_a_service_defines_itself_stay(self):
        class Options(usage.Options):
            optParameters = [["port", None, "none", "Something else"]]

            def opt_listen(self, value):
                self["heard"] = value

        parsed = self.parse(Options, "--port x --listen y")
        self.assertEqual((parsed["port"], parsed["heard"]), ("x", "y"))

    def test_help_shows_the_default_port(self):
        class Options(usage.Options):
            default_port = 9200

        self.assertIn("[default: 9200]", str(with_listening_options(Options)()))

    def test_the_class_keeps_its_name_and_docstring(self):
        class Options(usage.Options):
            """Words."""

        made = with_listening_options(Options)
        self.assertEqual((made.__name__, made.__doc__), ("Options", "Words."))

    def test_a_callable_that_is_no_class_is_returned_unchanged(self):
        def make_options():
            return usage.Options()

        self.assertIs(with_listening_options(make_options), make_options)


class LimitsTests(SynchronousTestCase):
    def test_limits_are_read_from_the_options(self):
        options = with_listening_options(usage.Options)()
        options.parseOptions(
            ["--max-connections", "3", "--max-per-peer", "2", "--idle-timeout", "1.5"]
        )
        self.assertEqual(Limits.of(options), Limits(3, 2, 1.5))

    def test_without_options_there_is_no_limit(self):
        self.assertEqual(Limits.of(usage.Options()), Limits(None, None, None))

    def test_an_idle_timeout_of_zero_is_none(self):
        options = with_listening_options(usage.Options)()
        options.parseOptions(["--idle-timeout", "0"])
        self.assertIsNone(Limits.of(options).idle_timeout)


def size(text: str) -> int:
    return int(text)


class Base(usage.Options):
    optParameters = [["name", "n", None, "A name"]]


class Options(Base):
    optFlags = [["verbose", "v", "Say more"]]
    optParameters = [
        ["count", "c", 1, "A count", int],
        ["size", None, 1, "A size", size],
        ["ratio", None, 1.0, "A ratio", float],
        ["label", None, None, "A label", str],
    ]

    def opt_tag(self, value):
        """A tag"""
        self.opts.setdefault("tag", []).append(value)


class Other(usage.Options):
    optFlags = [["check", None, "Check"]]


class ArgumentTests(SynchronousTestCase):
    """From TOML values to command-line arguments."""

    def setUp(self):
        self.schema = Schema(Options())

    def arguments(self, name, value):
        return self.schema.get(name).arguments(value)

    def refusal(self, name, value):
        return str(self.assertRaises(ValueError, self.arguments, name, value))

    def test_a_number_becomes_text(self):
        self.assertEqual(self.arguments("count", 7), [("count", "7")])
        self.assertEqual(self.arguments("ratio", 0.5), [("ratio", "0.5")])
        self.assertEqual(self.arguments("ratio", 2), [("ratio", "2")])

    def test_an_option_without_a_parser_takes_text_and_numbers(self):
        for value in ("x", 3, 2.5):
            self.assertEqual(self.arguments("name", value), [("name", str(value))])

    def test_a_flag_is_given_if_it_is_true(self):
        self.assertEqual(self.arguments("verbose", True), [("verbose", None)])
        self.assertEqual(self.arguments("verbose", False), [])

    def test_a_flag_takes_only_true_and_false(self):
        self.assertEqual(self.refusal("verbose", "yes"), "expected true or false, not 'yes'")

    def test_a_list_repeats_an_option_that_may_be_repeated(self):
        self.assertEqual(self.arguments("tag", ["a", "b"]), [("tag", "a"), ("tag", "b")])
        self.assertEqual(self.arguments("tag", "a"), [("tag", "a")])
        self.assertEqual(self.arguments("tag", []), [])

    def test_other_options_take_no_list(self):
        self.assertEqual(self.refusal("count", [1]), "expected a whole number, not [1]")

    def test_the_type_is_the_parser_or_its_annotated_result(self):
        self.assertEqual(self.refusal("count", "7"), "expected a whole number, not '7'")
        self.assertEqual(self.refusal("size", 1.5), "expected a whole number, not 1.5")
        self.assertEqual(self.refusal("ratio", "x"), "expected a number, not 'x'")
        self.assertEqual(self.refusal("label", 3), "expected a string, not 3")
        self.assertEqual(self.refusal("name", {}), "expected a string, not {}")

    def test_a_duration_is_text_or_a_number(self):
        keep = Parameter("keep", takes_value=True, repeatable=False, parse=duration)
        for value in ("7d", 90, 1.5):
            self.assertEqual(keep.arguments(value), [("keep", str(value))])
        error = self.assertRaises(ValueError, keep.arguments, True)
        self.assertEqual(str(error), "expected a duration (such as 7d), not true")

    def test_true_is_not_a_number(self):
        self.assertEqual(self.refusal("count", True), "expected a whole number, not true")


class SchemaTests(SynchronousTestCase):
    def setUp(self):
        self.options = Options()
        self.schema = Schema(self.options)

    def test_options_of_base_classes_are_included(self):
        self.assertEqual(self.schema.get("name").name, "name")

    def test_an_underscore_may_stand_for_a_hyphen(self):
        class Hyphenated(usage.Options):
            optParameters = [["idle-timeout", None, None, "Seconds", float]]

        self.assertEqual(Schema(Hyphenated()).get("idle_timeout").name, "idle-timeout")

    def test_an_unknown_name_suggests_the_nearest_one(self):
        error = self.assertRaises(KeyError, self.schema.get, "cuont")
        self.assertEqual(error.args, ("; did you mean 'count'?",))

    def test_help_and_version_are_no_settings_and_are_not_suggested(self):
        for name in ("help", "version", "hlep"):
            error = self.assertRaises(KeyError, self.schema.get, name)
            self.assertEqual(error.args, ("",))

    def test_a_parser_may_raise_usage_error(self):
        def refuse(text):
            raise usage.UsageError("never")

        error = self.assertRaises(ValueError, Parameter("x", True, False, refuse).check, "1")
        self.assertEqual(str(error), "'1': never")


class SetOptionsTests(SynchronousTestCase):
    def test_the_first_invalid_value_is_named(self):
        arguments = [("verbose", None), ("name", "x"), ("c", "x"), ("ratio", "y")]
        for message, start in ((None, "-c 'x': "), ("{}: {}", "c: 'x': ")):
            error = self.assertRaises(
                usage.UsageError, set_options, Options(), arguments, message=message
            )
            self.assertTrue(str(error).startswith(f"{start}invalid literal"), error)

    def test_valid_values_are_set(self):
        options = Options()
        self.assertIsNone(set_options(options, [("c", "1"), ("verbose", None)]))
        self.assertEqual((options["count"], options["verbose"]), (1, 1))

    def test_any_other_error_stays_as_it_is(self):
        error = self.assertRaises(usage.UsageError, set_options, Options(), [], ["extra"])
        self.assertIn("number of arguments", str(error))


class DidYouMeanTests(SynchronousTestCase):
    def test_only_similar_names_are_suggested(self):
        self.assertEqual(did_you_mean("prot", ["port", "drain"]), "; did you mean 'port'?")
        self.assertEqual(did_you_mean("zzz", ["port", "drain"]), "")


class FormatArgumentsTests(SynchronousTestCase):
    def test_parse_arguments_reads_it_back(self):
        options = Options()
        arguments = [("count", "3"), ("v", None), ("n", "-x"), ("label", ""), ("tag", "--help")]
        words = format_arguments(arguments, ["--rest"])
        self.assertEqual(parse_arguments(words, [options], permute=False), (arguments, ["--rest"]))

    def test_without_positional_arguments_there_is_no_double_dash(self):
        self.assertEqual(format_arguments([("verbose", None)]), ["--verbose"])


class ParseArgumentsTests(SynchronousTestCase):
    def parse(self, words, *, permute=True):
        return parse_arguments(words.split(), [Options(), Other()], permute=permute)

    def refusal(self, words):
        return str(self.assertRaises(usage.UsageError, self.parse, words))

    def test_options_may_stand_after_positional_arguments(self):
        self.assertEqual(
            self.parse("x --count 3 y -v"), ([("count", "3"), ("v", None)], ["x", "y"])
        )

    def test_without_permuting_the_first_positional_argument_ends_the_options(self):
        self.assertEqual(
            self.parse("-v x --count 3", permute=False), ([("v", None)], ["x", "--count", "3"])
        )

    def test_the_options_of_all_classes_are_known(self):
        self.assertEqual(self.parse("--check -c 2")[0], [("check", None), ("c", "2")])

    def test_after_a_double_dash_nothing_is_an_option(self):
        self.assertEqual(self.parse("-v -- --count 3"), ([("v", None)], ["--count", "3"]))

    def test_an_option_may_be_abbreviated(self):
        self.assertEqual(self.parse("--rat=2")[0], [("ratio", "2")])

    def test_an_unknown_option_suggests_the_nearest_one(self):
        self.assertEqual(
            self.refusal("--cuont 3"), "option --cuont not recognized; did you mean 'count'?"
        )

    def test_a_missing_value_is_an_error(self):
        self.assertEqual(self.refusal("--count"), "option --count requires argument")
