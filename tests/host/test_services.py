"""The list of what is installed."""

import io
import sys
from pathlib import Path

from twisted.python.usage import Options as Base
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.services import Options, makeService, table
from evserve.plugin import Broken, Catalogue, Found, ServicePlugin


LOADS = ServicePlugin("services", "evserve.host.services", "It loads.")
FAILS = ServicePlugin("lame", "no_such_module", "It does not.")


class TableTests(SynchronousTestCase):
    def test_each_service_is_a_line_with_its_file(self):
        lines = list(table(Catalogue({"services": Found(LOADS, "/p/a.py")}, ())))
        self.assertEqual(lines, ["services  It loads.  [/p/a.py]"])

    def test_what_cannot_be_used_follows_with_its_cause(self):
        catalogue = Catalogue(
            {"lame": Found(FAILS, "/p/l.py"), "services": Found(LOADS, "/p/a.py")},
            (Broken("bad", "/p/bad.py", "SyntaxError"),),
        )
        self.assertEqual(
            list(table(catalogue)),
            [
                "services  It loads.  [/p/a.py]",
                "",
                "Cannot be used:",
                "bad       SyntaxError  [/p/bad.py]",
                "lame      ModuleNotFoundError: No module named 'no_such_module'  [/p/l.py]",
            ],
        )

    def test_files_here_are_shown_without_the_folder(self):
        path = str(Path.cwd() / "twisted" / "plugins" / "x.py")
        (line,) = table(Catalogue({"services": Found(LOADS, path)}, ()))
        self.assertTrue(line.endswith("  [twisted/plugins/x.py]"), line)

    def test_nothing_installed_is_no_line(self):
        self.assertEqual(list(table(Catalogue({}, ()))), [])


class CommandTests(SynchronousTestCase):
    def test_it_prints_and_ends_with_status_0(self):
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        options = Options()
        options.parent = Base()
        options.parent.catalogue = Catalogue({"services": Found(LOADS, "/p/a.py")}, ())
        error = self.assertRaises(SystemExit, makeService, options, None)
        self.assertEqual(error.code, 0)
        self.assertEqual(out.getvalue(), "services  It loads.  [/p/a.py]\n")
