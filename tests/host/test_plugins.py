"""Folders of plugin files, and the `services` command."""

import importlib
import io
import os
import pwd
import py_compile
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from twisted.python.usage import Options as Base
from twisted.trial.unittest import SkipTest, SynchronousTestCase

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
    FoundSchedule,
    FoundService,
    PluginError,
    Schedule,
    ServicePlugin,
    added_folders,
)


class Case(SynchronousTestCase):
    def setUp(self):
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base)
        self.package = ModuleType("package")
        self.patch(sys, "path", list(sys.path))
        self.patch(sys, "meta_path", list(sys.meta_path))
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
        self.assertIn(f": {self.base}/open is world-writable ", self.refusal("link"))

    def test_every_folder_on_the_way_is_checked(self):
        self.make("open", 0o777)
        self.make("open/a/b")
        self.assertIn(f": {self.base}/open is world-writable ", self.refusal("open/a/b"))
        (self.base / "link").symlink_to(self.base / "open" / "a")
        self.assertIn(f": {self.base}/open is world-writable ", self.refusal("link/b"))
        self.assertIn(f": {self.base}/open is world-writable ", self.refusal("open/a/../a/b"))

    def test_a_folder_that_its_group_may_write_is_accepted(self):
        self.make("mine", 0o775)
        self.add("mine")


class OwnerTests(Case):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            raise SkipTest("only root can give a folder to another user")

    def give(self, path, uid=65534):
        os.lchown(path, uid, -1)
        return path

    def test_what_belongs_to_another_user_is_refused(self):
        plugins = self.give(self.make("theirs"))
        owner = pwd.getpwuid(65534).pw_name
        self.assertEqual(
            self.refusal("theirs"),
            f"not loading plugins from {plugins}: {plugins} belongs to {owner} "
            f"(fix: chown root {plugins})",
        )

    def test_a_folder_in_one_of_another_user_is_refused(self):
        self.give(self.make("theirs"))
        self.make("theirs/mine")
        self.assertIn("theirs belongs to ", self.refusal("theirs/mine"))

    def test_a_link_of_another_user_is_refused(self):
        self.make("mine")
        link = self.base / "link"
        link.symlink_to("mine")
        self.give(link)
        self.assertIn(f"{link} belongs to ", self.refusal("link"))

    def test_an_owner_without_a_name_is_shown_by_number(self):
        self.give(self.make("theirs"), 987654)
        self.assertIn("theirs belongs to 987654 ", self.refusal("theirs"))

    def test_any_user_may_load_what_belongs_to_root_or_to_him(self):
        self.make("theirs")
        self.give(self.base, 65534)
        self.give(self.make("mine"), 65534)
        os.seteuid(65534)
        self.addCleanup(os.seteuid, 0)
        self.add("theirs")
        self.add("mine")


class ImportTests(Case):
    """Modules in an added folder, which plugins name."""

    def setUp(self):
        super().setUp()
        self.make("mine")
        self.add("mine")
        self.name = f"module_{id(self)}"
        self.addCleanup(self.forget)

    def forget(self):
        for name in [each for each in sys.modules if each.startswith(self.name)]:
            del sys.modules[name]

    def write(self, path, mode=0o644):
        file = self.base / path
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
        file.chmod(mode)
        importlib.invalidate_caches()
        return file

    def refused(self, name, path):
        error = self.assertRaises(ImportError, importlib.import_module, name)
        self.assertEqual(str(error), f"{path} is world-writable (fix: chmod o-w {path})")
        self.assertNotIn(name, sys.modules)

    def test_a_module_is_imported(self):
        self.write(f"mine/{self.name}.py")
        importlib.import_module(self.name)

    def test_a_world_writable_module_is_refused(self):
        self.refused(self.name, self.write(f"mine/{self.name}.py", 0o666))

    def test_a_module_of_a_package_is_checked_too(self):
        self.write(f"mine/{self.name}/__init__.py")
        self.refused(f"{self.name}.x", self.write(f"mine/{self.name}/x.py", 0o666))

    def test_the_folder_of_a_package_is_checked_too(self):
        package = self.write(f"mine/{self.name}/__init__.py").parent
        package.chmod(0o777)
        self.refused(self.name, package)

    def test_a_package_without_an_init_file_is_no_way_around(self):
        self.write(f"mine/{self.name}/x.py").parent.chmod(0o777)
        self.refused(f"{self.name}.x", self.base / "mine" / self.name)

    def test_a_link_into_a_world_writable_folder_is_refused(self):
        folder = self.make("open", 0o777)
        (folder / "x.py").write_text("")
        (self.base / f"mine/{self.name}.py").symlink_to("../open/x.py")
        self.refused(self.name, folder)

    def test_compiled_copies_are_checked_too(self):
        source = self.write(f"mine/{self.name}.py")
        compiled = Path(py_compile.compile(str(source)))
        compiled.chmod(0o666)
        self.refused(self.name, compiled)
        compiled.unlink()
        compiled.parent.chmod(0o777)
        self.refused(self.name, compiled.parent)

    def test_a_compiled_module_without_its_source_is_checked_too(self):
        source = self.write("x.py")
        compiled = self.base / f"mine/{self.name}.pyc"
        py_compile.compile(str(source), cfile=str(compiled))
        compiled.chmod(0o666)
        importlib.invalidate_caches()
        self.refused(self.name, compiled)


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

    def test_schedules_are_listed_and_loaded(self):
        nightly = Schedule("0 3 * * *", "report.nightly", timezone="Europe/Berlin")
        never = Schedule("0 25 * * *", "never")
        schedules = {each.name: FoundSchedule(each, "/p/s.py") for each in (never, nightly)}
        self.assertEqual(
            list(list_plugins(Catalogue({}, (), schedules=schedules))),
            [
                *("", "Schedules:"),
                "report.nightly  0 3 * * * Europe/Berlin, puts report.nightly  [/p/s.py]",
                *("", "Cannot be used:"),
                "never           '0 25 * * *' is not a crontab expression: Bad hour  [/p/s.py]",
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
