"""What is left behind is removed, what is in use is not."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.sinks import apart
from evserve.fetch.sinks.apart import make_apart, remove_apart, remove_left_behind


class ApartTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def names(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def test_each_run_has_its_own_and_may_remove_it(self):
        first, second = make_apart(self.folder), make_apart(self.folder)
        self.assertNotEqual(first, second)
        remove_apart(first)
        self.assertEqual(self.names(), [second.name])

    def test_what_is_in_use_stays_and_the_rest_goes(self):
        used = make_apart(self.folder)
        (used / "x.part").write_bytes(b"x")
        for left in (".evserve-parts-1", ".evserve-parts-2"):
            (self.folder / left).mkdir()
            (self.folder / left / "y.part.2").write_bytes(b"y")
        remove_left_behind(self.folder)
        self.assertEqual(self.names(), [used.name, f"{used.name}/x.part"])

    def test_nothing_else_is_touched(self):
        (self.folder / "a.part").write_bytes(b"x")
        (self.folder / ".evserve-parts-file").write_bytes(b"x")
        (self.folder / ".evserve-parts-full" / "folder").mkdir(parents=True)
        (self.folder / "elsewhere").mkdir()
        (self.folder / "elsewhere" / "x").write_bytes(b"x")
        (self.folder / ".evserve-parts-link").symlink_to("elsewhere")
        (self.folder / ".parts-mine").mkdir()
        (self.folder / ".parts-mine" / "x.part").write_bytes(b"x")
        (self.folder / ".evserve-parts-mine").mkdir()
        (self.folder / ".evserve-parts-mine" / "x.party").write_bytes(b"x")
        before = self.names()
        remove_left_behind(self.folder)
        self.assertEqual(self.names(), before)

    def test_another_users_is_left_alone(self):
        (self.folder / ".evserve-parts-1").mkdir()
        self.patch(os, "geteuid", lambda: os.getuid() + 1)
        remove_left_behind(self.folder)
        self.assertEqual(self.names(), [".evserve-parts-1"])

    def test_one_that_becomes_a_link_meanwhile_leads_nowhere(self):
        left, other = self.folder / ".evserve-parts-1", self.folder / "other"
        left.mkdir()
        other.mkdir()
        (other / "x.part").write_bytes(b"x")

        def claim(descriptor):
            left.rmdir()
            left.symlink_to("other")
            return True

        self.patch(apart, "claim", claim)
        remove_left_behind(self.folder)
        self.assertTrue((other / "x.part").exists())

    def test_a_folder_that_cannot_be_listed_is_left_alone(self):
        remove_left_behind(self.folder / "none")

    def test_one_that_is_removed_before_it_is_claimed_is_made_again(self):
        made = []

        def mkdtemp(prefix, dir):  # noqa: A002 - the library's name
            path = dir / f"{prefix}{len(made)}"
            path.mkdir()
            made.append(path)
            if len(made) == 1:
                remove_left_behind(dir)
            return str(path)

        self.patch(apart, "mkdtemp", mkdtemp)
        self.assertEqual(make_apart(self.folder), made[1])
        self.assertEqual([path.exists() for path in made], [False, True])
