"""The bundled models, and the programs of the user."""

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.lab import models
from evserve.lab.models import (
    FAMILIES,
    ModelError,
    bundled_coroutine,
    bundled_models,
    select_models,
)


class BundledModelsTests(SynchronousTestCase):
    def test_every_model_has_a_family_and_every_member_is_there(self):
        names = [model.name for model in bundled_models()]
        self.assertEqual(names, [name for family in FAMILIES for name in family.members])

    def test_each_has_a_description(self):
        for model in bundled_models():
            self.assertGreater(len(model.description), 20, model.name)
            self.assertGreater(len(model.text), len(model.description))

    def test_the_wheel_brings_them_where_there_is_no_checkout(self):
        folder = Path(self.mktemp())
        installed = folder / "io_models"
        (installed / "coroutines").mkdir(parents=True)
        (installed / "epoll_level.py").write_text('"""Told."""')
        (installed / "coroutines" / "three_slow_pages.py").write_text("")
        self.patch(models, "_CHECKOUT", folder / "none")
        self.patch(models, "_INSTALLED", installed)
        (model,) = bundled_models()
        self.assertEqual(
            (model.name, model.family, model.description), ("epoll_level", "told", "Told.")
        )
        self.assertEqual(
            bundled_coroutine("three_slow_pages.py"),
            installed / "coroutines" / "three_slow_pages.py",
        )
        self.assertIsNone(bundled_coroutine("four.py"))


class SelectModelsTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def program(self, name, text="", mode=0o644):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def refused(self, name):
        return str(self.assertRaises(ModelError, select_models, [name]))

    def test_names_in_the_order_given_each_once(self):
        found = select_models(["epoll_level", "blocking", "epoll_level"])
        self.assertEqual([model.name for model in found], ["epoll_level", "blocking"])
        self.assertEqual(len(select_models(None)), 20)

    def test_a_name_that_is_nearly_right(self):
        self.assertEqual(
            self.refused("epol_level"), "no model named 'epol_level'; did you mean 'epoll_level'?"
        )
        self.assertEqual(self.refused("zzz"), "no model named 'zzz' (--list shows them)")

    def test_a_user_program(self):
        path = self.program("mine.py", '"""Mine: it is fast.\n\nVery."""')
        (model,) = select_models([path])
        self.assertEqual((model.name, model.family), ("mine", "yours"))
        self.assertEqual(model.description, "Mine: it is fast.")
        self.assertEqual(model.command, [sys.executable, path])

    def test_a_program_in_another_language(self):
        path = self.program("server", "#!/bin/sh\n\x80", mode=0o755)
        (model,) = select_models([path])
        self.assertEqual((model.command, model.description), ([path], ""))

    def test_a_user_program_with_the_name_of_a_bundled_model(self):
        path = self.program("epoll_level.py")
        names = [model.name for model in select_models(["epoll_level", path])]
        self.assertEqual(names, ["epoll_level", path])
        self.assertEqual(select_models([path])[0].name, path)

    def test_what_cannot_be_run(self):
        self.assertEqual(self.refused("./no.py"), "no file './no.py'")
        path = self.program("data")
        self.assertIn("is neither a .py file nor executable", self.refused(path))

    def test_a_file_that_is_not_valid_python_has_no_description(self):
        (model,) = select_models([self.program("broken.py", "def (:\x00")])
        self.assertEqual(model.description, "")
