"""The options that every listening service takes."""

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.options import (
    Limits,
    address,
    port_number,
    positive_number,
    seconds,
    with_listening_options,
)


class CoercionTests(SynchronousTestCase):
    def refused(self, convert, texts):
        for text in texts:
            self.assertRaises(ValueError, convert, text)

    def test_a_port_is_a_number_up_to_65535(self):
        self.assertEqual([port_number(text) for text in ("0", "9000", "65535")], [0, 9000, 65535])
        self.refused(
            port_number, ("", "-1", "65536", "99999", "abc", "1.5", " 1", "٣", "9" * 5000)
        )

    def test_an_empty_address_does_not_expose_a_service(self):
        self.assertEqual([address(text) for text in ("::", "127.0.0.1")], ["::", "127.0.0.1"])
        self.refused(address, ("", " ", "a\0b", "a\nb"))

    def test_a_count_is_at_least_one(self):
        self.assertEqual(positive_number("1"), 1)
        self.refused(positive_number, ("", "0", "-1", "x", "1.0", "²", "9" * 5000))

    def test_a_duration_is_a_plain_number_of_seconds(self):
        self.assertEqual(
            [seconds(text) for text in ("0", "2", "0.5", ".5", "2.")], [0, 2, 0.5, 0.5, 2]
        )
        self.refused(seconds, ("", "-1", "x", ".", "1e3", "inf", "nan", "1_0", "٣", "9" * 400))


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

    def test_what_a_service_defines_itself_stays_as_it_is(self):
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

    def test_the_class_keeps_its_name_and_its_words(self):
        class Options(usage.Options):
            """Words."""

        made = with_listening_options(Options)
        self.assertEqual((made.__name__, made.__doc__), ("Options", "Words."))

    def test_what_is_no_class_is_left_alone(self):
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
