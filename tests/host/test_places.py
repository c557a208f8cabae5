"""Where `twistd` was told to go and to write."""

import os
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.places import check_places


class PlacesTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.file = self.folder / "file"
        self.file.write_text("")

    def refusal(self, **options):
        texts = {name: str(value) for name, value in options.items()}
        return str(self.assertRaises(UsageError, check_places, texts))

    def test_what_can_be_used_is_no_mistake(self):
        for options in (
            {},
            {"logfile": None, "nodaemon": 1, "pidfile": "", "rundir": "."},
            {"logfile": "-"},
            {"logfile": "new.log", "pidfile": "new.pid"},
            {"logfile": str(self.file), "rundir": str(self.folder)},
            {"logfile": "/nowhere/x", "syslog": True},
            {"logfile": "/nowhere/x", "logger": "a.b"},
            {"chroot": str(self.folder), "rundir": "/nowhere", "pidfile": "/nowhere/x"},
        ):
            self.assertIsNone(check_places(options), options)

    def test_a_file_in_a_folder_that_is_not_there(self):
        for option in ("logfile", "pidfile"):
            line = f"twistd's --{option} /nowhere/x: No such file or directory"
            self.assertEqual(self.refusal(**{option: "/nowhere/x"}), line)

    def test_a_folder_in_place_of_a_file(self):
        line = f"twistd's --logfile {self.folder}: Is a directory"
        self.assertEqual(self.refusal(logfile=self.folder), line)

    def test_a_file_in_place_of_a_folder(self):
        for option in ("rundir", "chroot"):
            line = f"twistd's --{option} {self.file}: Not a directory"
            self.assertEqual(self.refusal(**{option: self.file}), line)

    def test_a_daemon_writes_a_log_here_unless_told_otherwise(self):
        self.patch(os, "access", lambda _, mode: mode != os.W_OK)
        line = "twistd's --logfile twistd.log: Permission denied"
        error = self.assertRaises(UsageError, check_places, {"nodaemon": 0})
        self.assertEqual(str(error), line)

    def test_a_folder_that_may_not_be_entered(self):
        self.patch(os, "access", lambda _, mode: mode != os.X_OK)
        line = f"twistd's --rundir {self.folder}: Permission denied"
        self.assertEqual(self.refusal(rundir=self.folder), line)
