"""Plugin files for tests, in a package that takes the place of `twisted.plugins`."""

import shutil
import sys
import tempfile
from itertools import count
from pathlib import Path
from types import ModuleType


_numbers = count(1)

SERVICE = "from evserve.plugin import ServicePlugin\n"


class PluginFolder:
    """A folder on `sys.path`, and a package whose plugin files are in `folders`."""

    def __init__(self, test):
        self.root = Path(tempfile.mkdtemp())
        test.addCleanup(shutil.rmtree, self.root)
        self.name = f"plugin_package_{next(_numbers)}_"
        self.package = ModuleType(self.name)
        self.package.__path__ = []
        test.patch(sys, "path", [*sys.path, str(self.root)])
        sys.modules[self.name] = self.package
        test.addCleanup(self._forget)
        self.folder()

    def _forget(self):
        for name in [name for name in sys.modules if name.startswith(self.name)]:
            del sys.modules[name]

    def folder(self):
        """Add a folder, which is searched last."""
        folder = self.root / f"folder{len(self.package.__path__)}"
        folder.mkdir()
        self.package.__path__.append(str(folder))
        return folder

    def plugin(self, stem, text, *, folder=0):
        """Write a plugin file."""
        path = Path(self.package.__path__[folder], f"{stem}.py")
        path.write_text(text)
        return str(path)

    def service(self, name, text, **attributes):
        """Write a plugin file for a service, and the module of the service."""
        module = f"{self.name}_{name}"
        (self.root / f"{module}.py").write_text(text)
        keywords = "".join(f", {key}={value!r}" for key, value in attributes.items())
        return self.plugin(
            name, f"{SERVICE}it = ServicePlugin({name!r}, {module!r}, ''{keywords})\n"
        )
