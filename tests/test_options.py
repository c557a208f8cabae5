"""Parsers of option values: what they take, and how they refuse the rest."""

import typing

from twisted.trial.unittest import SynchronousTestCase

from evserve import options


class OptionParserTests(SynchronousTestCase):
    """Each parser returns a value of its annotated type, or says what it expected."""

    def check(self, parse, good, bad, problem):
        for text, value in good.items():
            self.assertEqual(parse(text), value, text)
        for text in bad:
            error = self.assertRaises(ValueError, parse, text)
            self.assertEqual(str(error), problem, text)

    def test_integers(self):
        odd = ["", "x", "-1", "+1", "1.0", "1e3", "1_000", " 1", "\u0661", "\u00b2", "9" * 5000]
        self.check(
            options.positive_integer,
            {"1": 1, "007": 7, "9" * 18: 10**18 - 1, "0" * 400 + "5": 5},
            [*odd, "0"],
            "not a whole number above 0",
        )
        self.check(options.non_negative_integer, {"0": 0}, odd, "not a whole number (0 or more)")
        self.check(
            options.integer_between(1, 9),
            {"1": 1, "9": 9},
            [*odd, "0", "10"],
            "not a whole number from 1 to 9",
        )
        self.check(
            options.integer_between(0, 9), {"0": 0}, [*odd, "10"], "not a whole number up to 9"
        )

    def test_ports(self):
        self.check(
            options.port_number,
            {"0": 0, "9000": 9000, "65535": 65535},
            ["", "65536", "99999", "-1", "1.5", " 1", "abc", "080000", "\u0668\u0660", "9" * 5000],
            "not a port number (0 to 65535)",
        )

    def test_seconds(self):
        odd = ["", "-1", "1e3", "1_0", "\u0663", "1_000", "nan", "inf", "x", ".", "9" * 400]
        problem = "not a number of seconds (such as 2 or 0.5)"
        self.check(
            options.seconds, {"0": 0.0, "2": 2.0, "2.": 2.0, "0.5": 0.5, ".5": 0.5}, odd, problem
        )
        timer = options.seconds_up_to(options.MAX_TIMER_SECONDS, positive=True)
        self.check(timer, {"2000000": 2e6}, odd, problem)
        self.check(timer, {}, ["0", "0.0"], "not a number of seconds above 0")
        self.check(timer, {}, ["2000000.1"], "more than 2000000 seconds")

    def test_durations(self):
        good = {"7d": 604800, "12h": 43200, "30m": 1800, "90s": 90, "90": 90, "1.5h": 5400}
        good |= {"2w": 1209600, "0": 0, ".5s": 0.5}
        odd = ["", "d", "7 d", "-1d", "1e3", "7y", "7D", "1d12h", "1.2.3s", "\u0663d", "9" * 400]
        self.check(options.duration, good, odd, "not a duration (such as 7d, 12h, 30m or 90s)")
        self.check(options.duration, {}, ["24856d", "9" * 300], "longer than 68 years")

    def test_numbers(self):
        self.check(
            options.positive_number, {"0.1": 0.1}, ["0", "-1", "x", "nan"], "not a number above 0"
        )

    def test_choices(self):
        parse = options.choice("full", "normal", "off")
        self.check(parse, {"off": "off"}, ["", "FULL", "x"], "expected full, normal or off")

    def test_result_types_are_annotated_for_the_config_file(self):
        for parse, result in (
            (options.positive_integer, int),
            (options.port_number, int),
            (options.seconds, float),
            (options.seconds_up_to(1), float),
            (options.duration, options.Duration),
            (options.choice("a", "b"), str),
        ):
            self.assertEqual(typing.get_type_hints(parse)["return"], result)
