"""Which reactor a command installs, and what it says about another one."""

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import twisted.internet
from twisted.internet import main
from twisted.internet.error import ReactorAlreadyInstalledError
from twisted.trial.unittest import SynchronousTestCase

import evserve.reactor
from evserve.host import reactor
from evserve.host.reactor import DefaultReactor, runs_on_uvloop
from evserve.host.workers.messages import Assignment


NAME = "twisted.internet.reactor"
IN_FOREGROUND = {"nodaemon": 1}


class MadeReactor:
    pass


class Case(SynchronousTestCase):
    def setUp(self):
        self.ours = SimpleNamespace(loop=object())
        self.installed = 0
        self.error = None
        self.patch(evserve.reactor, "install_new_reactor", self.install)
        self.limit = 1024
        self.patch(reactor, "raise_file_limit", lambda: self.limit)
        self.assignment = None
        self.patch(reactor, "current_assignment", lambda: self.assignment)
        for context in (patch.dict(sys.modules), patch.dict(vars(twisted.internet))):
            context.start()
            self.addCleanup(context.stop)
        self.forget()

    def forget(self):
        sys.modules.pop(NAME, None)
        vars(twisted.internet).pop("reactor", None)

    def install(self):
        self.installed += 1
        if self.error is not None:
            raise self.error
        self.forget()
        main.installReactor(self.ours)

    def plugin(self, made):
        """Make a plugin file that has imported the reactor."""
        module = ModuleType("twisted.plugins.eager")
        module.__file__, module.reactor = "/p/eager.py", made
        sys.modules[module.__name__] = module


class InstallTests(Case):
    def check(self, installed, problem="", *, twistd=IN_FOREGROUND):
        default = DefaultReactor()
        default.install(twistd)
        default.settle()
        self.assertEqual(default.problem, problem)
        self.assertEqual(self.installed, installed)
        self.forget()

    def test_it_is_installed_if_there_is_none(self):
        self.check(1)

    def test_one_that_was_asked_for_wins(self):
        sys.modules[NAME] = MadeReactor()
        self.check(0, twistd={"reactor": "made"})

    def test_a_program_that_parses_the_options_itself_has_its_own(self):
        self.check(0, twistd=None)

    def test_one_that_is_installed_wins_and_is_told(self):
        sys.modules[NAME] = MadeReactor()
        self.check(
            0,
            "MadeReactor was installed before evserve's own (twistd --reactor=uvloop comes first)",
        )

    def test_a_plugin_file_that_imported_it_is_named(self):
        sys.modules[NAME] = made = MadeReactor()
        self.plugin(made)
        self.check(
            0,
            "MadeReactor was installed by /p/eager.py before evserve's own "
            "(twistd --reactor=uvloop comes first)",
        )

    def test_without_uvloop_nothing_is_said(self):
        self.error = ModuleNotFoundError("No module named 'uvloop'", name="uvloop")
        self.check(1)

    def test_if_uvloop_is_broken_the_cause_is_told(self):
        self.error = ImportError("undefined symbol")
        self.check(1, "uvloop cannot be used: ImportError: undefined symbol")
        self.error = ModuleNotFoundError("No module named 'uvloop.loop'", name="uvloop.loop")
        self.check(2, "uvloop cannot be used: ModuleNotFoundError: No module named 'uvloop.loop'")

    def test_a_worker_follows_its_supervisor(self):
        self.assignment = Assignment(1, {}, uvloop=False)
        self.check(0)
        self.assignment = Assignment(1, {}, uvloop=True)
        self.check(1)

    def test_too_few_open_files_for_it_are_left_to_twisteds_own(self):
        self.limit = 18
        self.check(0)

    def test_a_daemon_has_it_only_on_linux(self):
        self.patch(sys, "platform", "darwin")
        self.check(0, twistd={"nodaemon": 0})
        self.check(1)
        self.patch(sys, "platform", "linux")
        self.check(2, twistd={"nodaemon": 0})


class ReplaceTests(Case):
    """A plugin that installs a reactor of its own."""

    def setUp(self):
        super().setUp()
        self.default = DefaultReactor()
        self.default.install(IN_FOREGROUND)
        self.addCleanup(self.default.settle)

    def test_it_has_its_own_and_the_server_says_so(self):
        made = MadeReactor()
        main.installReactor(made)
        self.assertIs(sys.modules[NAME], made)
        self.assertIs(twisted.internet.reactor, made)
        self.assertRegex(
            self.default.problem, r"^MadeReactor was installed by \S+ in place of the default$"
        )
        self.assertRaises(ReactorAlreadyInstalledError, main.installReactor, MadeReactor())

    def test_it_may_remove_the_installed_one_first(self):
        del sys.modules[NAME]
        main.installReactor(SimpleNamespace(_asyncioEventloop=self.ours.loop))
        self.assertIs(sys.modules[NAME], self.ours)
        del sys.modules[NAME]
        made = MadeReactor()
        main.installReactor(made)
        self.assertIs(sys.modules[NAME], made)
        self.assertRegex(self.default.problem, "^MadeReactor was installed by ")

    def test_an_asyncio_reactor_on_the_same_loop_is_there_already(self):
        main.installReactor(SimpleNamespace(_asyncioEventloop=self.ours.loop))
        self.assertIs(sys.modules[NAME], self.ours)
        self.assertEqual(self.default.problem, "")

    def test_one_that_others_have_imported_stays(self):
        self.plugin(self.ours)
        self.assertRaises(ReactorAlreadyInstalledError, main.installReactor, MadeReactor())
        self.assertIs(sys.modules[NAME], self.ours)

    def test_once_the_command_line_is_read_it_stays(self):
        self.default.settle()
        self.assertRaises(ReactorAlreadyInstalledError, main.installReactor, MadeReactor())


class RunsOnUvloopTests(SynchronousTestCase):
    def test_another_reactor_is_told_without_importing_uvloop(self):
        with patch.dict(sys.modules):
            sys.modules.pop("evserve.reactor.core", None)
            self.assertFalse(runs_on_uvloop(MadeReactor()))
            self.assertNotIn("evserve.reactor.core", sys.modules)
