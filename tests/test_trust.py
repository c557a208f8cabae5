"""What another user may change; folders of plugins have more tests of it."""

import importlib
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.plugin import UntrustedError
from evserve.trust import add_import_folder, check_trusted


class TrustTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(sys, "path", list(sys.path))
        self.patch(sys, "meta_path", list(sys.meta_path))
        self.module = f"trusted_{self.folder.name}"
        self.addCleanup(sys.modules.pop, self.module, None)

    def test_links_that_lead_nowhere_end(self):
        link = self.folder / "link"
        link.symlink_to(link)
        self.assertRaises(OSError, check_trusted, link)

    def test_an_import_folder_precedes_all_others(self):
        (self.folder / f"{self.module}.py").write_text("x = 7")
        for _ in range(2):
            add_import_folder(self.folder)
        self.assertEqual(importlib.import_module(self.module).x, 7)
        self.assertEqual(sys.path[0], str(self.folder))
        self.assertEqual(sys.path.count(str(self.folder)), 1)

    def test_a_folder_that_any_user_may_write_to_is_not_added(self):
        self.folder.chmod(0o777)
        self.assertRaises(UntrustedError, add_import_folder, self.folder)
        self.assertNotIn(str(self.folder), sys.path)

    def test_a_module_that_any_user_may_write_is_not_imported(self):
        path = self.folder / f"{self.module}.py"
        path.touch()
        path.chmod(0o666)
        add_import_folder(self.folder)
        self.assertRaises(UntrustedError, importlib.import_module, self.module)
