"""Plugin descriptors and their discovery."""

import importlib
import subprocess
import sys

from twisted.application.service import IService, IServiceMaker, Service, ServiceMaker
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from evserve.interfaces import IHandlerPlugin, ISchedulePlugin, IServicePlugin, LoadedService
from evserve.plugin import (
    BrokenPlugin,
    Catalogue,
    FoundService,
    Handler,
    PluginError,
    Schedule,
    ServicePlugin,
    added_folders,
    discover,
    load,
    one_line,
)
from tests.plugin_folder import SERVICE, PluginFolder


COMPLETE = """
from twisted.application.service import Service
from twisted.python import usage
class Options(usage.Options):
    pass
def makeService(options, host):
    return Service()
"""

MAKER = """
from twisted.application.service import ServiceMaker
stock = ServiceMaker("Stock service", "twisted.web.tap", "A web server.", {!r})
"""

STAND_IN = """
from twisted.application.service import ServiceMaker
from evserve.plugin import ServiceMakerPlugin
it = ServiceMakerPlugin(ServiceMaker("x", "own", "x", "same"), replaces="twisted.web.tap")
"""

HOSTILE = """
from twisted.plugin import IPlugin
from zope.interface import implementer
from evserve.interfaces import IServicePlugin

@implementer(IPlugin, IServicePlugin)
class Hostile:
    module = description = "x"
    listens = stateless = False
    @property
    def name(self):
        raise RuntimeError("no name for you")

hostile = Hostile()
"""


class Case(SynchronousTestCase):
    def setUp(self):
        importlib.invalidate_caches()
        self.plugins = PluginFolder(self)

    def discover(self):
        importlib.invalidate_caches()
        return discover(self.plugins.package)

    def cause(self, text):
        """Return why a plugin file is left out, beside a good one that must stay."""
        self.plugins.service("good", COMPLETE)
        self.plugins.plugin("bad", text)
        catalogue = self.discover()
        self.assertEqual(list(catalogue.services), ["good"])
        (broken,) = catalogue.broken
        return broken.cause


class DiscoveryTests(Case):
    def test_a_plugin_file_adds_its_services(self):
        path = self.plugins.plugin(
            "two", f"{SERVICE}a = ServicePlugin('a', 'x', 'A.')\nb = ServicePlugin('b', 'y', 'B.')"
        )
        catalogue = self.discover()
        self.assertEqual(catalogue.broken, ())
        self.assertEqual(
            catalogue.services,
            {
                "a": FoundService(ServicePlugin("a", "x", "A."), path),
                "b": FoundService(ServicePlugin("b", "y", "B."), path),
            },
        )

    def test_services_are_listed_by_name_whatever_the_file_is_called(self):
        self.plugins.plugin("a", f"{SERVICE}z = ServicePlugin('z', 'x', '')")
        self.plugins.plugin("z", f"{SERVICE}a = ServicePlugin('a', 'x', '')")
        self.assertEqual(list(self.discover().services), ["a", "z"])

    def test_other_values_are_ignored(self):
        self.plugins.plugin("other", "number = 3\nfrom evserve.plugin import ServicePlugin\n")
        self.assertEqual(self.discover(), Catalogue({}, ()))

    def test_a_package_is_no_plugin_file(self):
        folder = self.plugins.root / "folder0" / "package"
        folder.mkdir()
        (folder / "__init__.py").write_text("raise RuntimeError")
        self.assertEqual(self.discover(), Catalogue({}, ()))

    def test_a_twistd_plugin_is_a_service(self):
        self.plugins.plugin("stock", MAKER.format("stock"))
        plugin = self.discover().services["stock"].plugin
        self.assertTrue(verifyObject(IServicePlugin, plugin))
        self.assertEqual(
            (plugin.name, plugin.description, plugin.module, plugin.listens, plugin.stateless),
            ("stock", "A web server.", "twisted.web.tap", False, False),
        )

    def test_evserve_itself_is_not_offered_as_a_service(self):
        self.plugins.plugin(
            "me", MAKER.format("me").replace("twisted.web.tap", "evserve.host.command")
        )
        self.assertEqual(self.discover(), Catalogue({}, ()))

    def test_evserve_plugins_precede_those_of_twistd(self):
        self.plugins.plugin("a_first", MAKER.format("same"))
        mine = self.plugins.plugin("b_second", f"{SERVICE}it = ServicePlugin('same', 'x', '')")
        self.assertEqual(self.discover().services["same"].path, mine)

    def test_a_plugin_takes_the_place_of_the_twistd_plugin_that_it_replaces(self):
        for first, second in ((MAKER.format("same"), STAND_IN), (STAND_IN, MAKER.format("same"))):
            self.plugins = PluginFolder(self)
            paths = [self.plugins.plugin(*each) for each in (("a", first), ("b", second))]
            catalogue = self.discover()
            self.assertEqual(catalogue.services["same"].path, paths[first is not STAND_IN])
            self.assertEqual(catalogue.services["same"].plugin.module, "own")
            self.assertEqual(catalogue.broken, ())

    def test_it_is_in_conflict_with_all_others_of_that_name(self):
        for other in (
            MAKER.format("same").replace("twisted.web.tap", "another.tap"),
            f"{SERVICE}it = ServicePlugin('same', 'x', '')",
        ):
            self.plugins = PluginFolder(self)
            self.plugins.plugin("a", other)
            stand_in = self.plugins.plugin("b", STAND_IN)
            self.plugins.plugin("c", MAKER.format("same"))
            catalogue = self.discover()
            self.assertEqual([each.path for each in catalogue.broken], [stand_in])

    def test_it_is_no_plugin_of_twistd(self):
        self.plugins.plugin("b", STAND_IN)
        plugin = self.discover().services["same"].plugin
        self.assertFalse(IServiceMaker.providedBy(plugin))  # which getPlugins asks for

    def test_added_folders_are_searched_last_and_stay_unknown_to_twisted(self):
        self.plugins.plugin("a", f"{SERVICE}it = ServicePlugin('same', 'x', '')")
        folder = self.plugins.root / "added"
        folder.mkdir()
        (folder / "b.py").write_text(
            f"{SERVICE}it = ServicePlugin('same', 'y', '')\nto = ServicePlugin('other', 'y', '')"
        )
        added_folders(self.plugins.package).append(str(folder))
        catalogue = self.discover()
        self.assertEqual(catalogue.services["same"].plugin.module, "x")
        self.assertEqual(catalogue.services["other"].path, str(folder / "b.py"))
        self.assertNotIn(str(folder), self.plugins.package.__path__)


class BrokenTests(Case):
    def test_a_syntax_error_is_named_with_its_place(self):
        cause = self.cause("x = 1\ndef (")
        self.assertRegex(cause, r"^SyntaxError: invalid syntax \(.*bad\.py, line 2\)$")

    def test_an_error_at_import_is_named_in_one_line(self):
        self.assertEqual(self.cause("raise RuntimeError('no\\n  luck')"), "RuntimeError: no luck")

    def test_a_plugin_file_cannot_end_the_process(self):
        self.assertEqual(self.cause("import sys; sys.exit('bye')"), "SystemExit: bye")

    def test_any_exception_is_contained(self):
        for name in ("GeneratorExit", "BaseException"):
            self.plugins = PluginFolder(self)
            self.assertEqual(self.cause(f"raise {name}('odd')"), f"{name}: odd")

    def test_ctrl_c_is_not_caught(self):
        self.assertRaises(KeyboardInterrupt, self.cause, "raise KeyboardInterrupt")

    def test_null_bytes_are_no_python(self):
        # ValueError before Python 3.11.4
        self.assertRegex(self.cause("x = '\0'"), "^(Syntax|Value)Error: .*null bytes$")

    def test_an_attribute_that_raises_harms_no_other_plugin(self):
        self.assertEqual(self.cause(HOSTILE), "RuntimeError: no name for you")

    def test_a_name_must_be_one_that_can_be_typed(self):
        for name in ("", "two words", "-dash", 3, None):
            cause = self.cause(f"{SERVICE}it = ServicePlugin({name!r}, 'x', '')")
            self.assertEqual(cause, f"ValueError: {name!r} cannot be the name of a service")
            self.plugins = PluginFolder(self)

    def test_a_description_must_be_text(self):
        cause = self.cause(f"{SERVICE}it = ServicePlugin('x', 'x', None)")
        self.assertEqual(cause, "ValueError: 'x' has no description")

    def test_the_first_on_the_path_gets_a_name_and_the_other_is_broken(self):
        first = self.plugins.plugin("a", f"{SERVICE}it = ServicePlugin('same', 'x', '')")
        second = self.plugins.plugin("b", f"{SERVICE}it = ServicePlugin('same', 'y', '')")
        catalogue = self.discover()
        self.assertEqual(catalogue.services["same"].path, first)
        cause = f"the name 'same' is taken by {first}"
        self.assertEqual(catalogue.broken, (BrokenPlugin("same", second, cause),))

    def test_a_file_shadowed_by_one_of_the_same_name_is_broken(self):
        self.plugins.folder()
        first = self.plugins.plugin("a", f"{SERVICE}it = ServicePlugin('x', 'x', '')")
        second = self.plugins.plugin("a", f"{SERVICE}it = ServicePlugin('y', 'y', '')", folder=1)
        catalogue = self.discover()
        self.assertEqual(list(catalogue.services), ["x"])
        cause = f"shadowed by {first}"
        self.assertEqual(catalogue.broken, (BrokenPlugin("a", second, cause),))

    def test_two_copies_of_a_file_are_no_conflict(self):
        self.plugins.folder()
        for folder in (0, 1):
            self.plugins.plugin("a", f"{SERVICE}it = ServicePlugin('x', 'x', '')", folder=folder)
        self.assertEqual(self.discover().broken, ())

    def test_a_compiled_copy_is_a_conflict(self):
        self.plugins.folder()
        self.plugins.plugin("a", f"{SERVICE}it = ServicePlugin('x', 'x', '')")
        (self.plugins.root / "folder1" / "a.pyc").write_bytes(b"")
        (broken,) = self.discover().broken
        self.assertRegex(broken.cause, "^shadowed by")


class LoadTests(Case):
    def load(self, text):
        self.plugins.service("it", text)
        return load(self.discover().services["it"].plugin)

    def refusal(self, text):
        return str(self.assertRaises(PluginError, self.load, text))

    def test_loading_imports_the_options_and_the_constructor(self):
        loaded = self.load(COMPLETE)
        self.assertIsInstance(loaded.options(), usage.Options)
        self.assertIsInstance(loaded.make_service(loaded.options(), None), Service)

    def test_a_name_that_a_module_lacks_is_shown(self):
        module = f"{self.plugins.name}_it"
        self.assertEqual(self.refusal(""), f"{module} has no Options and no makeService")

    def test_a_module_that_cannot_be_imported_is_one_line(self):
        self.assertEqual(self.refusal("1/0"), "ZeroDivisionError: division by zero")

    def test_a_module_cannot_end_the_process(self):
        self.assertEqual(self.refusal("raise SystemExit"), "SystemExit")
        self.plugins = PluginFolder(self)
        self.assertEqual(self.refusal("raise GeneratorExit"), "GeneratorExit")

    def test_options_that_cannot_be_made_are_found_before_they_are_needed(self):
        text = f"{COMPLETE}\nclass Options:\n def __init__(self): raise RuntimeError('no')"
        self.assertEqual(self.refusal(text), "RuntimeError: no")
        self.plugins = PluginFolder(self)
        self.assertEqual(
            self.refusal(f"{COMPLETE}\nOptions = 3"), "TypeError: 'int' object is not callable"
        )

    def test_a_constructor_must_be_callable(self):
        text = f"{COMPLETE}\nmakeService = 3"
        self.assertEqual(self.refusal(text), "makeService is not callable")

    def test_attributes_of_a_module_that_raise_are_one_line(self):
        text = "def __getattr__(name): raise RuntimeError(name)"
        self.assertEqual(self.refusal(text), "RuntimeError: Options")


class AdapterTests(SynchronousTestCase):
    def test_a_twistd_plugin_makes_its_service_from_its_options_alone(self):
        loaded = load(IServicePlugin(ServiceMaker("x", "twisted.web.tap", "x", "x")))
        options = loaded.options()
        options.parseOptions(["--listen", "tcp:0"])
        self.assertTrue(IService.providedBy(loaded.make_service(options, None)))

    def test_a_twistd_plugin_whose_module_is_missing_is_one_line(self):
        maker = ServiceMaker("x", "no_such_module", "x", "x")
        error = self.assertRaises(PluginError, load, IServicePlugin(maker))
        self.assertEqual(str(error), "ModuleNotFoundError: No module named 'no_such_module'")

    def test_a_twistd_plugin_without_options_is_one_line(self):
        maker = ServiceMaker("x", "twisted.web", "x", "x")
        error = self.assertRaises(PluginError, load, IServicePlugin(maker))
        self.assertRegex(str(error), "^AttributeError: .*Options")


class CatalogueTests(SynchronousTestCase):
    plugin = ServicePlugin("echo", "x", "")
    catalogue = Catalogue(
        {"echo": FoundService(plugin, "/p/echo.py")},
        (
            BrokenPlugin("shout", "/p/loud.py", "no voice"),
            BrokenPlugin("echo", "/p/b.py", "taken"),
        ),
    )

    def test_a_service_is_found_by_its_name(self):
        self.assertIs(self.catalogue.find("echo"), self.plugin)

    def test_asking_for_a_broken_plugin_or_its_file_says_why(self):
        for name in ("shout", "loud"):
            error = self.assertRaises(PluginError, self.catalogue.find, name)
            self.assertEqual(str(error), f"{name!r} cannot be used: no voice (/p/loud.py)")

    def test_an_unknown_name_is_a_key_error(self):
        self.assertRaises(KeyError, self.catalogue.find, "nobody")


class OneLineTests(SynchronousTestCase):
    def test_what_does_not_print_is_escaped(self):
        """A message may come from a client, and must not control the operator's terminal."""
        for text, shown in (
            ("\x1b[2Jred", "\\x1b[2Jred"),
            ("\x9b\u202e\ud800", "\\x9b\\u202e\\ud800"),
            ("caf\xe9 \u2615", "caf\xe9 \u2615"),
        ):
            self.assertEqual(one_line(ValueError(text)), f"ValueError: {shown}")

    def test_a_long_message_is_cut(self):
        line = one_line(ValueError("x" * 10**6))
        self.assertTrue(line.endswith("xxx..."))
        self.assertLess(len(line), 2100)

    def test_an_error_without_a_message_is_its_type(self):
        self.assertEqual(one_line(ValueError()), "ValueError")

    def test_line_breaks_become_blanks(self):
        self.assertEqual(one_line(ValueError("a\n b")), "ValueError: a b")


class LoadedServiceTests(SynchronousTestCase):
    def test_it_is_a_value(self):
        self.assertEqual(LoadedService(int, str), LoadedService(int, str))


def double(event):
    return event * 2


class HandlerTests(SynchronousTestCase):
    def test_it_is_a_handler_plugin(self):
        verifyObject(IHandlerPlugin, Handler("image.uploaded", "thumbs.make"))

    def test_it_names_a_function_and_imports_it_when_loaded(self):
        self.assertIs(Handler("a", f"{__name__}.double").load(), double)

    def test_a_missing_function_is_one_line(self):
        for function, cause in (
            ("no_such_module.f", "No module named 'no_such_module'"),
            (f"{__name__}.missing", "has no function missing"),
            (f"{__name__}.__doc__", "has no function __doc__"),
            ("double", "not MODULE.FUNCTION"),
        ):
            error = self.assertRaises(PluginError, Handler("a", function).load)
            self.assertIn(cause, str(error))
            self.assertNotIn("\n", str(error))

    def test_any_error_of_an_import_is_one_line(self):
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


class ScheduleTests(SynchronousTestCase):
    def test_it_is_a_schedule_plugin(self):
        verifyObject(ISchedulePlugin, Schedule("0 3 * * *", "report.nightly"))

    def test_it_is_named_for_its_type_or_by_itself(self):
        self.assertEqual(Schedule("0 3 * * *", "report").name, "report")
        self.assertEqual(Schedule("0 3 * * *", "report", name="early").name, "early")

    def test_a_wrong_argument_is_an_error_of_the_plugin_file(self):
        for event_type, rest, cause in (
            ("two words", {}, "'two words' is not an event type"),
            ("report.*", {}, "'report.*' is not an event type"),
            ("a", {"name": ""}, "'' is not an event type"),
            ("x" * 192, {}, "a name of 192 characters: at most 191"),
            ("a", {"timezone": None}, "are not text"),
            ("a", {"body": "text"}, "body='text' is not bytes"),
            ("a", {"priority": -1}, "priority=-1 is not a whole number from 0"),
            ("a", {"ttr": True}, "ttr=True is not a whole number from 1"),
            ("a", {"missed": "all"}, "missed='all' is neither 'last' nor 'skip'"),
        ):
            error = self.assertRaises(ValueError, Schedule, "0 3 * * *", event_type, **rest)
            self.assertIn(cause, str(error))

    def test_a_wrong_expression_or_time_zone_is_one_line_when_it_is_loaded(self):
        for expression, zone, cause in (
            ("0 25 * * *", "UTC", "'0 25 * * *' is not a crontab expression: Bad hour"),
            ("nightly", "UTC", "'nightly' is not a crontab expression: Wrong number of fields"),
            ("0 0 L/2,1 * 1#2-3", "UTC", "is not a crontab expression"),
            ("0 0 31 2,4 *", "UTC", "'0 0 31 2,4 *'"),
            ("0 0 */28 2 MON#2", "Europe/Berlin", "'0 0 */28 2 MON#2' never comes"),
            ("0 3 * * *", "Europe/Rixdorf", "'Europe/Rixdorf' is not a time zone"),
            ("0 3 * * *", "../etc/passwd", "'../etc/passwd' is not a time zone"),
            ("0 3 * * *", "", "'' is not a time zone"),
        ):
            schedule = Schedule(expression, "a", timezone=zone)
            error = self.assertRaises(PluginError, schedule.load)
            self.assertIn(cause, str(error))
            self.assertNotIn("\n", str(error))

    def test_neither_the_parser_nor_time_zones_are_imported_before_it_is_loaded(self):
        code = (
            "import sys; from evserve.plugin import Schedule; Schedule('0 3 * * *', 'a');"
            "print([name for name in ('cronsim', 'zoneinfo') if name in sys.modules])"
        )
        output = subprocess.check_output([sys.executable, "-c", code], text=True)
        self.assertEqual(output, "[]\n")


class HandlerDiscoveryTests(SynchronousTestCase):
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

    def test_the_first_handler_gets_a_pattern(self):
        found = self.discover(one='a = Handler("a", "m.one")', two='a = Handler("a", "m.two")')
        self.assertEqual(found.handlers["a"].plugin.function, "m.one")
        self.assertIn("one.py", found.broken[0].cause)
        self.assertTrue(found.broken[0].path.endswith("two.py"))

    def test_a_bad_pattern_breaks_only_its_file(self):
        found = self.discover(bad='a = Handler("*.a", "m.a")', good='b = Handler("b", "m.b")')
        self.assertEqual(list(found.handlers), ["b"])
        self.assertIn("'*.a'", found.broken[0].cause)

    def test_schedules_are_listed_by_name_and_the_first_gets_it(self):
        text = 'from evserve.plugin import Schedule; a = Schedule("0 3 * * *", "report"'
        found = self.discover(
            one=f'{text}); b = Schedule("0 4 * * *", "report", name="late")',
            two=f'{text}, timezone="Europe/Berlin")',
        )
        self.assertEqual(list(found.schedules), ["late", "report"])
        self.assertEqual(found.schedules["report"].plugin.timezone, "UTC")
        self.assertIn("schedule name 'report' is taken by", found.broken[0].cause)
        self.assertTrue(found.broken[0].path.endswith("two.py"))
