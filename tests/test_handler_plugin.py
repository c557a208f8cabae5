"""Handler descriptors, and how discovery lists them."""

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from evserve.interfaces import IHandlerPlugin
from evserve.plugin import Handler, PluginError, discover
from tests.plugin_folder import PluginFolder


def double(event):
    return event * 2


class HandlerTests(SynchronousTestCase):
    def test_it_is_a_handler_plugin(self):
        verifyObject(IHandlerPlugin, Handler("image.uploaded", "thumbs.make"))

    def test_it_names_a_function_and_imports_it_when_loaded(self):
        self.assertIs(Handler("a", f"{__name__}.double").load(), double)

    def test_a_function_that_cannot_be_had_is_one_line(self):
        for function, cause in (
            ("no_such_module.f", "No module named 'no_such_module'"),
            (f"{__name__}.missing", "has no function missing"),
            (f"{__name__}.__doc__", "has no function __doc__"),
            ("double", "not MODULE.FUNCTION"),
        ):
            error = self.assertRaises(PluginError, Handler("a", function).load)
            self.assertIn(cause, str(error))
            self.assertNotIn("\n", str(error))

    def test_whatever_an_import_raises_is_one_line(self):
        for number, raising in enumerate(("SystemExit(3)", "asyncio.CancelledError('x\\ny')")):
            plugins, name = PluginFolder(self), f"raises_at_import_{number}"
            (plugins.root / f"{name}.py").write_text(f"import asyncio\nraise {raising}\n")
            error = self.assertRaises(PluginError, Handler("a", f"{name}.f").load)
            self.assertNotIn("\n", str(error))

    def test_patterns_end_in_a_star_or_are_types(self):
        for pattern in ("a", "image.*", "image*", "*", "x" * 200):
            self.assertEqual(Handler(pattern, "m.f").pattern, pattern)
        for pattern in ("", "*.uploaded", "image.*.x", "two words", "-a", "-*", "é", "x" * 201, 7):
            self.assertIn(
                repr(pattern), str(self.assertRaises(ValueError, Handler, pattern, "m.f"))
            )

    def test_a_descriptor_that_cannot_work_is_refused_where_it_is_written(self):
        for options in (
            {"max_attempts": 0},
            {"max_attempts": "3"},
            {"max_attempts": 2.5},
            {"timeout": -1},
            {"timeout": "5"},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
        ):
            [(name, value)] = options.items()
            error = self.assertRaises(ValueError, Handler, "a", "m.f", **options)
            self.assertIn(f"{name}={value!r} is not a", str(error))
        error = self.assertRaises(ValueError, Handler, "a", double)
        self.assertIn("is not the name of a function", str(error))

    def test_a_handler_may_have_limits_of_its_own(self):
        handler = Handler("a", "m.f", max_attempts=1, timeout=0)
        self.assertEqual((handler.max_attempts, handler.timeout), (1, 0))


class DiscoveryTests(SynchronousTestCase):
    def discover(self, **files):
        plugins = PluginFolder(self)
        for stem, text in files.items():
            plugins.plugin(stem, f"from evserve.plugin import Handler\n{text}\n")
        return discover(plugins.package)

    def test_handlers_are_listed_by_pattern(self):
        found = self.discover(one='a = Handler("a.*", "m.a"); b = Handler("b", "m.b")')
        self.assertEqual(list(found.handlers), ["a.*", "b"])
        self.assertEqual(found.handlers["b"].plugin, Handler("b", "m.b"))
        self.assertTrue(found.handlers["b"].path.endswith("one.py"))
        self.assertEqual((found.services, found.broken), ({}, ()))

    def test_the_first_to_name_a_pattern_has_it(self):
        found = self.discover(one='a = Handler("a", "m.one")', two='a = Handler("a", "m.two")')
        self.assertEqual(found.handlers["a"].plugin.function, "m.one")
        self.assertIn("one.py", found.broken[0].cause)
        self.assertTrue(found.broken[0].path.endswith("two.py"))

    def test_a_bad_pattern_breaks_its_file_alone(self):
        found = self.discover(bad='a = Handler("*.a", "m.a")', good='b = Handler("b", "m.b")')
        self.assertEqual(list(found.handlers), ["b"])
        self.assertIn("'*.a'", found.broken[0].cause)
