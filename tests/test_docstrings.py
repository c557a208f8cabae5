"""Names in docstrings are there."""

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import evserve


PACKAGE = Path(evserve.__file__).parent
DOTTED = re.compile(r"\bevserve(?:\.[A-Za-z_]\w*)+")
# A line of a table of contents: a module or package, blanks, and what it is for.
CONTENTS = re.compile(r"^ *([a-z_]+)/? {2,}\S", re.MULTILINE)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        text
        for node in ast.walk(tree)
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node))
    ]


def is_there(name):
    """Whether a dotted name is a module or an attribute of one."""
    try:
        if find_spec(name) is not None:
            return True
    except ModuleNotFoundError:  # its parent is no package
        pass
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(import_module(module), attribute)
    except ModuleNotFoundError:
        return "." in module and is_there(module)


class DocstringTests(SynchronousTestCase):
    def test_every_dotted_name_is_there(self):
        missing = [
            f"{path.relative_to(PACKAGE)}: {name}"
            for path in sorted(PACKAGE.rglob("*.py"))
            for text in docstrings(path)
            for name in DOTTED.findall(text)
            if not is_there(name)
        ]
        self.assertEqual(missing, [])

    def test_tables_of_contents_name_the_modules_of_their_packages(self):
        for path in sorted(PACKAGE.rglob("__init__.py")):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            named = set(CONTENTS.findall(text))
            if not named:
                continue
            modules = {each.stem for each in path.parent.glob("*.py")} - {"__init__"}
            packages = {each.parent.name for each in path.parent.glob("*/__init__.py")}
            self.assertEqual(named - modules - packages, set(), path)
            unnamed = {each for each in modules if not re.search(rf"\b{each}\b", text)}
            self.assertEqual(unnamed, set(), path)
