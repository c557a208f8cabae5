"""Folders of plugin files, and the `services` command."""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from twisted.python.usage import Options as Base
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.plugins import (
    Options,
    add_current_folder,
    add_plugin_folder,
    list_plugins,
    makeService,
)
from evserve.plugin import (
    BrokenPlugin,
    Catalogue,
    FoundService,
    PluginError,
    ServicePlugin,
    added_folders,
)


class Case(SynchronousTestCase):
    def setUp(self):
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base)
        self.package = ModuleType("package")
        self.patch(sys, "path", list(sys.path))
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.base)

    def make(self, name, mode=0o755):
        folder = self.base / name
        folder.mkdir(parents=True)
        folder.chmod(mode)
        return folder

    def add(self, name):
        add_plugin_folder(str(name), self.package)

    def refusal(self, name):
        reason = str(self.assertRaises(PluginError, self.add, name))
        self.assertEqual(added_folders(self.package), [])
        return reason


class AddPluginFolderTests(Case):
    def test_a_folder_that_contains_twisted_plugins(self):
        plugins = self.make("twisted/plugins")
        self.add(self.base)
        self.assertEqual(added_folders(self.package), [str(plugins)])
        self.assertIn(str(self.base), sys.path)

    def test_a_folder_of_plugin_files(self):
        plugins = self.make("mine")
        self.add("mine")
        self.assertEqual(added_folders(self.package), [str(plugins)])
        self.assertIn(str(plugins), sys.path)

    def test_the_folder_twisted_plugins_itself(self):
        self.make("twisted/plugins")
        self.add("twisted/plugins")
        self.assertIn(str(self.base), sys.path)

    def test_adding_a_folder_twice_adds_it_once(self):
        self.make("mine")
        self.add("mine")
        self.add("mine")
        self.assertEqual(len(added_folders(self.package)), 1)

    def test_a_missing_folder_is_an_error(self):
        self.assertEqual(self.refusal("nowhere"), "no plugin folder 'nowhere'")

    def test_an_empty_name_is_not_the_current_folder(self):
        self.assertEqual(self.refusal(""), "no plugin folder ''")

    def test_an_unreadable_folder_is_an_error(self):
        self.assertEqual(self.refusal("x" * 300), f"{'x' * 300}: File name too long")


class WorldWritableTests(Case):
    def test_a_world_writable_folder_is_refused(self):
        plugins = self.make("mine", 0o777)
        self.assertEqual(
            self.refusal("mine"),
            f"not loading plugins from {plugins}: {plugins} is world-writable "
            f"(fix: chmod o-w {plugins})",
        )

    def test_modules_in_a_world_writable_folder_are_refused(self):
        self.make("twisted/plugins")
        self.base.chmod(0o777)
        self.assertIn(f": {self.base} is world-writable ", self.refusal(self.base))

    def test_a_folder_that_any_user_may_replace_is_refused(self):
        self.make("twisted", 0o777)
        self.make("twisted/plugins")
        self.assertIn(f": {self.base}/twisted is world-writable ", self.refusal(self.base))

    def test_a_folder_in_a_sticky_folder_is_accepted(self):
        self.base.chmod(0o1777)
        plugins = self.make("mine")
        self.add("mine")
        self.assertEqual(added_folders(self.package), [str(plugins)])

    def test_a_sticky_world_writable_folder_of_plugins_is_refused(self):
        self.make("mine", 0o1777)
        self.assertIn("is world-writable", self.refusal("mine"))

    def test_a_link_is_checked_by_its_target(self):
        self.make("open", 0o777)
        (self.base / "link").symlink_to("open")
        self.assertIn(f": {self.base}/link is world-writable ", self.refusal("link"))


class CurrentFolderTests(Case):
    def test_without_plugins_here_nothing_is_added(self):
        before = list(sys.path)
        self.assertEqual((add_current_folder(), sys.path), ((), before))

    def test_a_refused_folder_is_no_error_but_is_listed(self):
        plugins = self.make("twisted/plugins", 0o777)
        (broken,) = add_current_folder()
        self.assertEqual((broken.name, broken.path), ("", str(plugins)))
        self.assertIn("is world-writable", broken.cause)

    def test_a_current_folder_that_is_gone_has_no_plugins(self):
        gone = self.make("gone")
        os.chdir(gone)
        gone.rmdir()
        self.assertEqual(add_current_folder(), ())


LOADS = ServicePlugin("services", "evserve.host.plugins", "It loads.")
FAILS = ServicePlugin("lame", "no_such_module", "It does not.")


class ListPluginsTests(SynchronousTestCase):
    def test_each_service_is_a_line_with_its_file(self):
        lines = list(list_plugins(Catalogue({"services": FoundService(LOADS, "/p/a.py")}, ())))
        self.assertEqual(lines, ["services  It loads.  [/p/a.py]"])

    def test_unusable_plugins_follow_with_their_causes(self):
        catalogue = Catalogue(
            {"lame": FoundService(FAILS, "/p/l.py"), "services": FoundService(LOADS, "/p/a.py")},
            (BrokenPlugin("bad", "/p/bad.py", "SyntaxError"),),
        )
        self.assertEqual(
            list(list_plugins(catalogue)),
            [
                "services  It loads.  [/p/a.py]",
                "",
                "Cannot be used:",
                "bad       SyntaxError  [/p/bad.py]",
                "lame      ModuleNotFoundError: No module named 'no_such_module'  [/p/l.py]",
            ],
        )

    def test_files_below_the_current_folder_are_shown_relative_to_it(self):
        path = str(Path.cwd() / "twisted" / "plugins" / "x.py")
        (line,) = list_plugins(Catalogue({"services": FoundService(LOADS, path)}, ()))
        self.assertTrue(line.endswith("  [twisted/plugins/x.py]"), line)

    def test_without_plugins_there_is_no_line(self):
        self.assertEqual(list(list_plugins(Catalogue({}, ()))), [])


class CommandTests(SynchronousTestCase):
    def test_it_prints_and_ends_with_status_0(self):
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        options = Options()
        options.parent = Base()
        options.parent.catalogue = Catalogue({"services": FoundService(LOADS, "/p/a.py")}, ())
        error = self.assertRaises(SystemExit, makeService, options, None)
        self.assertEqual(error.code, 0)
        self.assertEqual(out.getvalue(), "services  It loads.  [/p/a.py]\n")
