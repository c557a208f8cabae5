import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.plugin import PluginError, UntrustedError
from evserve.web.asgi.application import load_application


class LoadTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)
        self.patch(sys, "path", [each for each in sys.path if each])  # "" is the current folder
        self.patch(sys, "meta_path", list(sys.meta_path))
        self.module = f"application_{self.folder.name}"
        self.addCleanup(sys.modules.pop, self.module, None)

    def load(self, text, name="app", *, here=True, is_factory=False):
        path = self.folder / f"{self.module}.py"
        path.write_text(text)
        return load_application(
            f"{self.module}:{name}", in_current_folder=here, is_factory=is_factory
        )

    def refusal(self, *arguments, **named):
        reason = str(self.assertRaises(PluginError, self.load, *arguments, **named))
        return reason.replace(self.module, "M").replace(str(self.folder), "F")

    def test_functions_objects_and_what_a_factory_returns(self):
        text = (
            "async def app(scope, receive, send): ...\n"
            "class Application:\n    async def __call__(self, scope, receive, send): ...\n"
            "class made:\n    app = Application()\n"
        )
        self.assertEqual(self.load(text).__name__, "app")
        for name, is_factory in (("made.app", False), ("Application", True)):
            found = self.load(text, name, is_factory=is_factory)
            self.assertEqual(type(found).__name__, "Application")

    def test_a_module_here_precedes_all_others(self):
        self.load("async def app(scope, receive, send): ...\n")
        self.assertEqual(sys.path[0], str(self.folder))

    def test_one_line_says_what_is_wrong(self):
        for text, line in (
            ("", 'Attribute "app" not found in module "M".'),
            ("app = 1", "M:app is no application: it cannot be called"),
            ("\nx = {}['a']", "M:app: KeyError: 'a' (F/M.py, line 2)"),
            (
                "import nowhere",
                "M:app: ModuleNotFoundError: No module named 'nowhere' (F/M.py, line 1)",
            ),
            (
                "import json\njson.loads('1 2')",
                "M:app: JSONDecodeError: Extra data: line 1 column 3 (char 2) (F/M.py, line 2)",
            ),
            (
                "import importlib\nimportlib.import_module('nowhere')",
                "M:app: ModuleNotFoundError: No module named 'nowhere' (F/M.py, line 2)",
            ),
            ("def :", "M:app: SyntaxError: invalid syntax (F/M.py, line 1)"),
            ("raise SystemExit(3)", "M:app: SystemExit: 3 (F/M.py, line 1)"),
        ):
            sys.modules.pop(self.module, None)
            self.assertEqual(self.refusal(text), line)

    def test_an_application_of_another_kind(self):
        reason = self.refusal("def app(environ, start_response): ...")
        self.assertIn("M:app is no ASGI 3 application", reason)
        self.assertIn("--factory if it returns the application)", reason)

    def test_a_factory_that_fails(self):
        reason = self.refusal("def app():\n    raise ValueError('no')", is_factory=True)
        self.assertEqual(reason, "M:app: ValueError: no (F/M.py, line 2)")

    def test_a_folder_that_another_user_may_change_is_left_out(self):
        self.folder.chmod(0o777)
        self.assertEqual(
            self.refusal("async def app(scope, receive, send): ..."),
            'Could not import module "M". Not looked for in the current folder: '
            "F is world-writable (fix: chmod o-w F)",
        )
        sys.path.append(str(self.folder))  # as the user's own choice
        importlib.invalidate_caches()
        self.load("async def app(scope, receive, send): ...")

    def test_a_module_that_another_user_may_change(self):
        path = self.folder / f"{self.module}.py"
        path.touch()
        path.chmod(0o666)
        self.assertRaises(UntrustedError, self.load, "async def app(a, b, c): ...")

    def test_the_current_folder_may_be_left_out(self):
        text = "async def app(scope, receive, send): ..."
        self.assertEqual(
            self.refusal(text, here=False),
            'Could not import module "M". Not looked for in the current folder: --no-cwd-plugins',
        )

    def test_a_current_folder_that_is_gone(self):
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        os.chdir(elsewhere)
        elsewhere.rmdir()
        sys.path.append(str(self.folder))
        importlib.invalidate_caches()
        self.load("async def app(scope, receive, send): ...")
