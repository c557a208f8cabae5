"""The `evserve` command: its options, and the service tree they build."""

import io
import os
import subprocess
import sys
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from evserve.host import command, process
from evserve.host.reactor import DefaultReactor
from evserve.plugin import BrokenPlugin, Catalogue, FoundService, ServicePlugin
from tests.plugin_folder import PluginFolder


SECONDS = "not a number of seconds (such as 2 or 0.5)"


class Case(SynchronousTestCase):
    def setUp(self):
        self.signals = []
        self.patch(command, "hold_signals", lambda: self.signals.append("held"))
        self.patch(
            command, "ignore_job_control", lambda: self.signals.append("job control ignored")
        )
        self.reactors = []  # for whom one was installed
        self.problem = ""

        def install(default, twistd):
            self.reactors.append(twistd)
            default.problem = self.problem

        self.patch(DefaultReactor, "install", install)
        self.out = io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(process, "raise_file_limit", lambda: 1024)
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)

    def parse(self, words, **twistd):
        options = command.Options()
        options.parent = usage.Options()
        options.parent.update({"nodaemon": 1, "pidfile": "twistd.pid", **twistd})
        options.parseOptions(words.split())
        return options

    def refusal(self, words):
        return self.assertRaises(SystemExit, self.parse, words).code

    def config(self, text):
        Path("c.toml").write_text(text)
        return "--config c.toml"


class ImportTests(SynchronousTestCase):
    def test_it_is_imported_without_a_reactor_and_without_what_runs_services(self):
        program = (
            "import sys, evserve.host.command; late = {'twisted.internet.reactor', "
            "'evserve.host.application', 'evserve.host.listener'}; "
            "sys.exit(not late.isdisjoint(sys.modules))"
        )
        self.assertEqual(
            subprocess.run([sys.executable, "-c", program], check=False).returncode, 0
        )


class CommandLineTests(Case):
    def test_without_a_service_it_is_echo(self):
        (config,) = self.parse("--port 0").services
        self.assertEqual((config.name, config.options["port"]), ("echo", 0))

    def test_options_of_the_host_may_stand_on_either_side(self):
        for words in ("--drain 3 --port 0 echo", "echo --port 0 --drain 3"):
            options = self.parse(words)
            self.assertEqual((options["drain"], options.services[0].options["port"]), (3, 0))

    def test_the_words_default_to_those_of_the_process(self):
        self.patch(sys, "argv", ["evserve", "--port", "7"])
        options = command.Options()
        options.parseOptions()
        self.assertEqual(options.services[0].options["port"], 7)

    def test_each_mistake_ends_with_one_line(self):
        table = {
            "--drain x": f"--drain 'x': {SECONDS}",
            "echo --drain x": f"--drain 'x': {SECONDS}",
            "--log-format xml": "--log-format 'xml': expected text or json",
            "--dran 3": "option --dran not recognized; did you mean 'drain'?",
            "--plugin-dir nowhere": "plugin-dir: no plugin folder 'nowhere'",
            "echo --no-cwd-plugins": "--no-cwd-plugins must stand before 'echo'",
            "echo -c x": "--config must stand before 'echo'",
            "-c c.toml echo": "--config names the services to run (remove echo)",
            "-c c.toml --config d.toml": "--config: given twice (one file names all services)",
            "-c c.toml --port 7": "--config names the services to run (remove --port)",
            "-c c.toml": "c.toml: No such file or directory",
        }
        for words, message in table.items():
            self.assertEqual(self.refusal(words), f"evserve: {message}")

    def test_checking_ends_with_status_0(self):
        self.assertEqual(self.refusal("--check --port 0"), 0)
        self.assertEqual(self.out.getvalue(), "command line: OK (echo)\n")

    def test_the_version_is_that_of_evserve(self):
        self.assertEqual(self.refusal("--version"), 0)
        self.assertRegex(self.out.getvalue(), r"^evserve \S+ \(Twisted \S+\)\n$")


class SignalTests(Case):
    def test_they_are_held_before_anything_is_read(self):
        self.refusal("--nonsense")
        self.assertEqual(self.signals, ["held"])


class ReactorTests(Case):
    def test_one_is_installed_for_what_runs(self):
        options = [self.parse("--port 0"), self.parse("echo --port 0")]
        options.append(self.parse(self.config("[services.echo]\nport = 0")))
        self.assertEqual(self.reactors, [each.parent for each in options])

    def test_none_is_installed_for_what_prints_and_ends(self):
        for words in ("--help", "--version", "--check --port 0"):
            self.refusal(words)
        self.parse("services")
        self.assertEqual(self.reactors, [])

    def test_it_is_installed_before_plugin_files_are_imported(self):
        installed = []

        def discover():
            installed.extend(self.reactors)
            return Catalogue({}, ())

        self.patch(command, "discover", discover)
        self.refusal("echo --port 0")
        self.assertEqual(len(installed), 1)


class ConfigTests(Case):
    def test_each_table_is_a_service(self):
        words = self.config("[services.a]\nplugin = 'echo'\n[services.echo]\nport = 0")
        self.assertEqual([config.name for config in self.parse(words).services], ["a", "echo"])

    def test_the_command_line_overrides_the_table_of_the_host(self):
        words = self.config("[evserve]\ndrain = 3\nlog_format = 'json'\n[services.echo]\nport = 0")
        options = self.parse(words)
        self.assertEqual((options["drain"], options["log-format"]), (3, "json"))
        self.assertEqual(self.parse(f"{words} --drain 4")["drain"], 4)

    def test_what_belongs_elsewhere_is_refused(self):
        for key, message in (
            ("port = 7", "port: belongs in a [services.NAME] table"),
            ("config = 'x'", "unknown key 'config'"),
            ("check = true", "unknown key 'check'"),
            ("plugin-dir = 'x'", "plugin-dir: no plugin folder 'x'"),
            ("drain = -1", f"drain: '-1': {SECONDS}"),
        ):
            words = self.config(f"[evserve]\n{key}\n[services.echo]\nport = 0")
            self.assertEqual(self.refusal(words), f"evserve: c.toml: [evserve] {message}")

    def test_what_needs_the_process_for_itself_is_refused_among_others(self):
        queue = "[services.queue]\nusr1_drains = true\nport = 0\n"
        self.assertTrue(self.parse(self.config(queue)).services[0].options["usr1-drains"])
        self.assertEqual(
            self.refusal(self.config(f"{queue}[services.echo]\nport = 0")),
            "evserve: c.toml: [services.queue] usr1-drains: "
            "needs a process without other services",
        )

    def test_checking_names_the_file(self):
        self.assertEqual(self.refusal(self.config("[services.echo]") + " --check"), 0)
        self.assertEqual(self.out.getvalue(), "c.toml: OK (echo)\n")


class PidfileTests(Case):
    def test_in_the_foreground_none_is_written(self):
        self.assertEqual(self.parse("--port 0").parent["pidfile"], "")

    def test_one_that_is_asked_for_is_written(self):
        self.assertEqual(self.parse("--port 0", pidfile="my.pid").parent["pidfile"], "my.pid")

    def test_a_daemon_writes_one(self):
        self.assertEqual(self.parse("--port 0", nodaemon=0).parent["pidfile"], "twistd.pid")


class CatalogueTests(Case):
    def test_services_is_always_there(self):
        self.assertIn("services", self.parse("--port 0").catalogue.services)

    def test_help_lists_the_services(self):
        names = [name for name, *_ in command.Options().subCommands]
        self.assertTrue({"echo", "services", "web"} <= set(names))

    def test_the_usage_line_of_a_service_names_that_service_only(self):
        self.assertIn("[SERVICE ", command.Options().synopsis)
        self.assertNotIn("[SERVICE ", self.parse("echo --port 0").synopsis)

    def test_a_named_folder_is_remembered(self):
        plugins = PluginFolder(self)
        options = self.parse(f"--no-cwd-plugins --plugin-dir {plugins.root} --port 0")
        self.assertEqual(options["plugin-dir"], [str(plugins.root)])


class MakeServiceTests(Case):
    """What a server says about its start, and which process may be suspended."""

    broken = (BrokenPlugin("bad", "/p/bad.py", "no luck"),)

    def warnings(self, words, plugin):
        logged = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        options = command.Options()
        options.catalogue = Catalogue({plugin.name: FoundService(plugin, "/p")}, self.broken)
        options.parseOptions(words.split())
        self.patch(sys.modules["twisted.internet"], "reactor", MemoryReactorClock())
        command.makeService(options)
        self.problems = [event["problem"] for event in logged if "problem" in event]
        return [event["cause"] for event in logged if "cause" in event]

    def test_a_server_logs_them(self):
        plugin = ServicePlugin("echo", "evserve.echo.service", "")
        self.assertEqual(self.warnings("--port 0", plugin), ["no luck"])
        self.assertEqual(self.signals, ["held", "job control ignored"])

    def test_a_server_logs_why_its_reactor_is_another_one(self):
        plugin = ServicePlugin("echo", "evserve.echo.service", "")
        self.warnings("--port 0", plugin)
        self.assertEqual(self.problems, [])
        self.problem = "no luck"
        self.warnings("--port 0", plugin)
        self.assertEqual(self.problems, ["no luck"])

    def test_a_job_does_not(self):
        plugin = ServicePlugin("job", "tests.host.job_service", "", listens=False)
        self.assertEqual(self.warnings("job", plugin), [])
        self.assertEqual(self.signals, ["held"])
