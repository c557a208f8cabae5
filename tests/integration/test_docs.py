"""The files and commands of the pages: written, run, and compared with what the pages show."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from inspect import isfunction
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from evserve import aio, options, testing
from evserve.interfaces import (
    IDrainable,
    IHandlerPlugin,
    IHost,
    ISchedulePlugin,
    IServicePlugin,
)
from tests.documents import ROOT, Page
from tests.integration.processes import (
    TWISTD,
    need_open_files,
    on_default_reactor,
    run_python,
)


# What differs between two runs: times, durations, amounts, versions, ports, process numbers.
NUMBER = r"(?:\d+(?:[-:.,]\d+)*(?: (?:us|µs|ms|s)\b| \d\d:\d\d:\d\d|s)?)"
VARYING = re.compile(NUMBER)


# What `lab` prints for a measurement, unless other programs use the CPU.
MEASURED = re.compile(r"(?m)^(\w+ +[\d,]+ +)(\S+/s +p50 .* CPU .*)$")

# What `load` and `lab` say of full listen queues: also of other tests' servers.
OVERFLOWS = re.compile(r"(?m)^overflows .*\n|; meanwhile a listen queue was full .*?listen\(2\)")


def as_pattern(shown):
    """Return a pattern for output like `shown`: other numbers, runs of blanks, or reactor."""
    parts = [re.escape(part) for part in VARYING.split(MEASURED.sub(r"\1<\2>", shown.strip()))]
    pattern = NUMBER.join(parts).replace("UvloopReactor", r"\w+Reactor")
    pattern = re.sub(r"<(.*p.*CPU.*)>", r"(?:\1|not\\ measured: .*)", pattern)
    return re.compile(re.sub(r"(?:\\ )+", r"\\s+", pattern))


def need_programs(commands):
    """Skip the test if a program that a page's commands use is missing here."""
    for program in ("curl", "grep", "nc", "sed"):
        if any(re.search(rf"(^|[|;] *){program} ", command) for command, _ in commands):
            if shutil.which(program) is None:
                raise SkipTest(f"{program} is not installed")
            if program == "nc" and "-N" not in nc_options():
                raise SkipTest("nc is not OpenBSD's (Debian's package netcat-openbsd)")


def nc_options():
    shown = subprocess.run(["nc", "-h"], check=False, capture_output=True, text=True)
    return shown.stdout + shown.stderr


class FileTests(SynchronousTestCase):
    def test_a_page_writes_nothing_into_the_system(self):
        folder = self.mktemp()
        Page("docs/deployment.md").write_files(folder)
        self.assertTrue(Path(folder, "etc", "systemd", "system", "evserve.socket").exists())


class UnitTests(SynchronousTestCase):
    def test_it_imports_nothing_from_a_folder_that_the_process_may_write(self):
        unit = (ROOT / "docs/evserve.service").read_text(encoding="utf-8")
        self.assertRegex(unit, r"(?m)^WorkingDirectory=/var/lib/evserve$")
        self.assertRegex(unit, r"(?m)^ExecStart=.* --no-cwd-plugins ")


class PluginAPIPageTests(SynchronousTestCase):
    def test_every_hook_is_listed(self):
        page = (ROOT / "docs/plugin-api.md").read_text(encoding="utf-8")
        for interface in (IHost, IServicePlugin, IHandlerPlugin, ISchedulePlugin, IDrainable):
            for name in (interface.__name__, *interface.names()):
                self.assertRegex(page, rf"\b{name}\b")
        parsers = [name for name, value in vars(options).items() if isfunction(value)]
        for name in (*parsers, *testing.__all__, *aio.__all__, "default_port", "one_process"):
            if not name.startswith("_"):
                self.assertRegex(page, rf"\b{name}\b")


class PageTests(TestCase):
    """Each page is followed from top to bottom in an empty folder, on the default reactor."""

    def setUp(self):
        on_default_reactor(self)

    async def follow(self, name):
        page, folder = Page(name), self.mktemp()
        need_programs(page.commands())
        # No link: hatchling would follow it, and leave the real examples out of the archive.
        shutil.copytree(ROOT / "examples", Path(folder, "examples"))
        page.write_files(folder)
        for command, shown in page.commands():
            said = await self.run_command(command, shown, folder)
            while "peek-ready" in command and "NOT_FOUND" in said:
                # A reader of the page would be slower than the work in the background.
                said = await self.run_command(command, shown, folder)
            said = OVERFLOWS.sub("", said)
            self.assertRegex(said, as_pattern(shown))

    async def run_command(self, command, shown, folder):
        if " serves " not in shown:
            return await self.run_shell(command, folder)
        # A server: it runs to the end of the test, beside the commands that follow.
        child = run_python(self, TWISTD, *shlex.split(command)[1:], folder=folder)
        await child.until(lambda: as_pattern(shown).search(child.err.decode()))
        return child.err.decode()

    async def run_shell(self, command, folder):
        paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {**os.environ, "PATH": os.pathsep.join(paths), "COLUMNS": "80"}
        out, err, _ = await getProcessOutputAndValue(
            "/bin/sh", ["-c", command], environment, str(folder)
        )
        return (out + err).decode().replace("\r\n", "\n")  # as a terminal shows it

    async def test_deployment_page(self):
        """docs/deployment.md shows what happens."""
        await self.follow("docs/deployment.md")

    async def test_io_models_page(self):
        """docs/io-models.md runs some of the programs that it explains."""
        await self.follow("docs/io-models.md")

    async def test_load_page(self):
        """docs/load.md shows what is reported."""
        await self.follow("docs/load.md")

    async def test_lab_page(self):
        """docs/lab.md shows what a run prints."""
        await self.follow("docs/lab.md")

    async def test_plugin_api_page(self):
        """docs/plugin-api.md makes a service in five minutes."""
        await self.follow("docs/plugin-api.md")

    async def test_handlers_page(self):
        """docs/handlers.md makes a handler in five minutes."""
        await self.follow("docs/handlers.md")

    async def test_asyncio_page(self):
        """docs/asyncio.md runs a handler and a server that await asyncio."""
        await self.follow("docs/asyncio.md")

    async def test_asgi_page(self):
        """docs/asgi.md serves an application, beside the handlers of its events."""
        await self.follow("docs/asgi.md")

    async def test_events_page(self):
        """docs/events.md looks into a queue and mends it."""
        await self.follow("docs/events.md")

    async def test_fetch_page(self):
        """docs/fetch.md tours the command and the library."""
        await self.follow("docs/fetch.md")

    async def test_readme(self):
        """README.md shows what happens."""
        need_open_files(3100)
        await self.follow("README.md")

    async def test_admin_page(self):
        """docs/admin.md shows what the admin port answers."""
        await self.follow("docs/admin.md")
