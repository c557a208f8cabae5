from twisted.trial.unittest import SynchronousTestCase

from evserve.events import ERRORS
from evserve.plugin import BrokenPlugin, Catalogue, FoundHandler, Handler
from evserve.work.routing import NoHandlersError, Route, Routes, load_plugins


def routes(*patterns):
    return Routes([Route(pattern, print) for pattern in patterns])


class RoutesTests(SynchronousTestCase):
    def found(self, event_type, *patterns):
        route = routes(*patterns).find(event_type)
        return route and route.pattern

    def test_the_most_specific_wins_in_any_order_of_definition(self):
        patterns = ["*", "image.png", "image.*", "image.p*"]
        for order in (patterns, patterns[::-1]):
            self.assertEqual(self.found("image.png", *order), "image.png")
            self.assertEqual(self.found("image.pdf", *order), "image.p*")
            self.assertEqual(self.found("image.gif", *order), "image.*")
            self.assertEqual(self.found("mail", *order), "*")

    def test_a_prefix_matches_across_dots(self):
        self.assertEqual(self.found("image.png.small", "image.*"), "image.*")

    def test_a_type_without_a_handler_has_no_route(self):
        self.assertIsNone(self.found("mail", "image.*", "mails"))

    def test_error_records_go_only_to_a_handler_that_names_them(self):
        self.assertIsNone(self.found(ERRORS, "*", "evserve.*"))
        self.assertEqual(self.found(ERRORS, "*", ERRORS), ERRORS)

    def test_named_types_are_reserved_before_they_exist(self):
        wanted = routes("mail", "image.*").wanted(["image.png", "fax", ERRORS])
        self.assertEqual(wanted, {"mail", "image.png"})

    def test_patterns_and_names_are_distinguished(self):
        both = routes("mail", "image.*", "*")
        self.assertEqual((both.exact, both.patterns), ({"mail"}, ["image.*", "*"]))


def record(event):
    """A handler that is never called."""


class LoadingTests(SynchronousTestCase):
    def catalogue(self, *handlers, broken=()):
        found = {each.pattern: FoundHandler(each, "some/file.py") for each in handlers}
        return Catalogue({}, broken, found)

    def test_handlers_become_routes_with_their_own_limits(self):
        name = f"{__name__}.record"
        handler = Handler("mail", name, blocking=True, max_attempts=2, timeout=3)
        routes, _ = load_plugins(self.catalogue(handler))
        self.assertEqual(routes.find("mail"), Route("mail", record, True, 2, 3))

    def test_a_handler_that_cannot_be_imported_leaves_the_others(self):
        catalogue = self.catalogue(Handler("a", "no_such.f"), Handler("b", f"{__name__}.record"))
        routes, _ = load_plugins(catalogue)
        self.assertEqual(routes.exact, {"b"})

    def test_the_error_without_any_handler_names_the_causes(self):
        broken = BrokenPlugin("thumbs", "thumbs.py", "SyntaxError: oops")
        error = self.assertRaises(
            NoHandlersError,
            load_plugins,
            self.catalogue(Handler("a", "no_such.f"), broken=(broken,)),
        )
        self.assertIn("No module named 'no_such'", str(error))
        self.assertIn("oops", str(error))
        error = self.assertRaises(NoHandlersError, load_plugins, self.catalogue())
        self.assertIn("twisted/plugins", str(error))
