"""Plugins as users write them: in the current folder, beside others that are broken."""

import json
import re
import socket
import sys
from pathlib import Path

from tests.integration.commands import CommandCase
from tests.integration.processes import TWISTD


SHOUT = """
from twisted.internet.protocol import Factory, Protocol
from twisted.python import usage

class Options(usage.Options):
    optParameters = [["mark", None, "", "Text added to each reply"]]
    default_port = 0

class Shout(Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper() + self.factory.mark)

def makeService(options, host):
    factory = Factory.forProtocol(Shout)
    factory.mark = options["mark"].encode()
    return host.listen(options, factory)
"""

# A service that misbehaves, by the body of its `Service` class or of makeService.
MISBEHAVING = """
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python import usage

class Options(usage.Options):
    pass

class Misbehaving(Service):
    host = None
    {body}

def makeService(options, host):
    service = Misbehaving()
    service.host = host
    {make}
    return service
"""

BROKEN = {
    "syntax": ("def (", "SyntaxError: invalid syntax ({path}, line 1)"),
    "raising": ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    "exiting": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "taken": (
        "{service}it = ServicePlugin('echo', 'x', '')",
        "the name 'echo' is taken by {echo}",
    ),
}

LAZY = """
import sys
from evserve.host.command import Options

seen = set(sys.modules)
names = Options().catalogue.services
loaded = set(sys.modules)
print(sorted(names)[:2])
print(sorted(
    name for name in loaded
    if name.startswith(("evserve.echo", "treq")) or name == "twisted.internet.reactor"
))
"""


class Case(CommandCase):
    def plugin(self, name, module, *, listens=True, root="."):
        """Write a plugin file and its module."""
        descriptor = f"ServicePlugin({name!r}, 'module_{name}', 'Does {name}.', listens={listens})"
        text = f"from evserve.plugin import ServicePlugin\nit = {descriptor}\n"
        self.write(f"{root}/module_{name}.py", module)
        return self.write(f"{root}/twisted/plugins/{name}.py", text)

    def misbehaving(self, name, body="pass", make="pass"):
        self.plugin(name, MISBEHAVING.format(body=body, make=make), listens=False)

    async def services(self, *words):
        child = self.evserve(*words, "services")
        self.assertEqual((await child.ended, child.err), (0, b""))
        return child.out.decode()


class LazinessTests(Case):
    async def test_discovery_imports_no_service_no_treq_and_no_reactor(self):
        child = self.run_command(sys.executable, "-c", LAZY)
        self.assertEqual(await child.ended, 0, child.err)
        self.assertEqual(child.out.decode().splitlines()[1], "[]")

    async def test_a_plugin_file_leaves_the_choice_of_the_reactor_open(self):
        self.plugin("shout", SHOUT)
        server = self.run_command(
            sys.executable, TWISTD, "--reactor=asyncio", "-n", "evserve", "shout"
        )
        await server.listening()
        self.assertIn(b"AsyncioSelectorReactor", server.err)


class CurrentFolderTests(Case):
    async def test_a_file_here_adds_a_command_and_a_table(self):
        self.plugin("shout", SHOUT)
        server = self.evserve("shout", "--mark", "!")
        client = await self.connect(f"tcp:{await server.listening()}")
        client.transport.write(b"hello")
        self.assertEqual(await client.receive(6), b"HELLO!")
        self.write("c.toml", "[services.loud]\nplugin = 'shout'\nport = 0\nmark = '?'\n")
        server = self.evserve("--config", "c.toml")
        client = await self.connect(f"tcp:{await server.listening()}")
        client.transport.write(b"hello")
        self.assertEqual(await client.receive(6), b"HELLO?")

    async def test_its_help_has_its_options_and_the_hosts(self):
        self.plugin("shout", SHOUT)
        child = self.evserve("shout", "--help")
        self.assertEqual((await child.ended, child.err), (0, b""))
        for text in (b"--mark=", b"--port=", b"--max-connections=", b"Text added to each reply"):
            self.assertIn(text, child.out)

    async def test_it_can_be_left_out(self):
        self.plugin("shout", SHOUT)
        self.assertNotIn("shout", await self.services("--no-cwd-plugins"))
        await self.check_error(
            ["--no-cwd-plugins", "shout"],
            "no service named 'shout' ('twistd -n evserve services' lists them)",
        )

    async def test_another_folder_can_be_added(self):
        self.plugin("shout", SHOUT, root="elsewhere")
        self.assertIn("shout  ", await self.services("--plugin-dir", "elsewhere"))
        server = self.evserve("--plugin-dir=elsewhere/twisted/plugins", "shout")
        await server.listening()

    async def test_nothing_is_written_beside_the_plugin_files(self):
        self.plugin("shout", SHOUT)
        await self.services()
        await self.evserve("--listen", "haproxy:tcp:0", "shout").listening("haproxy")
        names = {path.name for path in (self.folder / "twisted" / "plugins").iterdir()}
        self.assertEqual(names - {"__pycache__"}, {"shout.py"})


class BrokenTests(Case):
    def setUp(self):
        super().setUp()
        self.plugin("shout", SHOUT)
        self.causes = {}
        for name, (text, cause) in BROKEN.items():
            service = "from evserve.plugin import ServicePlugin\n"
            path = self.write(f"twisted/plugins/{name}.py", text.format(service=service))
            self.causes[name] = (path.relative_to(self.folder), cause.format(path=path, echo="{}"))
        for name, module, cause in (
            ("no_options", "makeService = print", "module_no_options has no Options"),
            ("no_make", "Options = dict", "module_no_make has no makeService"),
            ("no_module", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ):
            self.causes[name] = (self.plugin(name, module).relative_to(self.folder), cause)

    async def test_each_is_listed_with_its_cause_and_harms_no_other(self):
        shown = await self.services()
        good, _, bad = shown.partition("Cannot be used:\n")
        self.assertRegex(good, r"(?m)^shout +Does shout\.  \[twisted/plugins/shout\.py\]$")
        self.assertRegex(good, r"(?m)^echo ")
        for path, cause in self.causes.values():
            self.assertIn(f"  [{path}]", bad)
            self.assertIn(cause.partition("{}")[0], bad)

    async def test_asking_for_one_says_the_same(self):
        rows = [
            ([name], f"{name!r} cannot be used: {cause}")
            for name, (_, cause) in self.causes.items()
            if name.startswith("no_")
        ]
        rows += [
            ([name], f"{name!r} cannot be used: {cause} ({self.folder / path})")
            for name, (path, cause) in self.causes.items()
            if name in ("syntax", "raising", "exiting")
        ]
        await self.check_rows(rows, self.check_error)

    async def test_a_server_says_at_its_start_which_files_it_left_out(self):
        server = self.evserve("shout")
        await self.echo_in_capitals(await server.listening())
        left_out = [line for line in server.err.decode().splitlines() if "left out" in line]
        self.assertEqual(len(left_out), len(BROKEN), left_out)
        for name in BROKEN:
            path, cause = self.causes[name]
            text = f" plugin left out: {self.folder / path}: {cause.partition('{}')[0]}"
            self.assertTrue(any(text in line for line in left_out), (text, left_out))
        self.assertNotIn(b"Traceback", server.err)

    async def echo_in_capitals(self, address):
        client = await self.connect(f"tcp:{address}")
        client.transport.write(b"x")
        self.assertEqual(await client.receive(1), b"X")

    async def test_help_and_jobs_say_nothing_about_them(self):
        self.misbehaving("job", "def startService(self): self.host.finish(0)")
        for words in (["--help"], ["echo", "--help"], ["--check", "--port", "0"]):
            child = self.evserve(*words)
            self.assertEqual((await child.ended, child.err), (0, b""))
        child = self.evserve("job")
        self.assertEqual(await child.ended, 0)
        self.assertNotIn(b"left out", child.err)


class WritableTests(Case):
    async def test_a_world_writable_folder_is_left_out_with_a_line(self):
        path = self.plugin("shout", "raise RuntimeError('I was run')").parent
        path.chmod(0o777)
        cause = (
            f"not loading plugins from {path}: {path} is world-writable (fix: chmod o-w {path})"
        )
        server = self.evserve("--port", "0")
        await self.check_echo(f"tcp:{await server.listening()}")
        self.assertIn(f"plugin left out: {path}: {cause}\n", server.err.decode())
        self.assertIn(cause, await self.services())

    async def test_a_world_writable_file_is_left_out_with_a_line(self):
        path = self.plugin("shout", "raise RuntimeError('I was run')")
        path.chmod(0o666)
        cause = f"{path} is world-writable (fix: chmod o-w {path})"
        server = self.evserve("--port", "0")
        await self.check_echo(f"tcp:{await server.listening()}")
        self.assertIn(f"plugin left out: {path}: {cause}\n", server.err.decode())
        self.assertIn(cause, await self.services())
        await self.check_error(["shout"], f"'shout' cannot be used: {cause} ({path})")

    async def test_the_module_behind_a_plugin_may_not_be_world_writable_either(self):
        self.plugin("shout", SHOUT)
        path = self.folder / "module_shout.py"
        path.chmod(0o666)
        cause = f"{path} is world-writable (fix: chmod o-w {path})"
        await self.check_error(["shout"], f"'shout' cannot be used: {cause}")

    async def test_naming_such_a_folder_is_a_mistake(self):
        path = self.plugin("shout", SHOUT, root="elsewhere").parent
        path.chmod(0o777)
        cause = f"{path} is world-writable (fix: chmod o-w {path})"
        await self.check_error(
            ["--plugin-dir", "elsewhere", "services"],
            f"plugin-dir: not loading plugins from {path}: {cause}",
        )


class MisbehavingTests(Case):
    """Services that break the rules of the plugin API."""

    async def ends(self, name, *, status, err, **parts):
        self.misbehaving(name, **parts)
        child = self.evserve("--drain", "0.1", name)
        if err.startswith(" serves"):
            await child.until(lambda: b" serves " in child.err)
            child.stop()
        self.assertEqual(await child.ended, status, child.err)
        self.assertRegex(child.err.decode(), f"(?s){err}$")
        self.assertNotIn(b"Unhandled", child.err)

    async def test_a_constructor_that_returns_nothing(self):
        await self.ends(
            "x",
            make="return",
            status=1,
            err="^evserve: x: makeService returned None, not a service\n",
        )

    async def test_a_constructor_that_raises(self):
        await self.ends(
            "x",
            make="1 / 0",
            status=1,
            err="^Traceback.*evserve: x: ZeroDivisionError: .* by zero\n",
        )

    async def test_a_constructor_that_names_a_mistake(self):
        make = "raise ValueError('give me more')"
        await self.ends("x", make=make, status=1, err="^evserve: x: give me more\n")

    async def test_a_constructor_that_exits(self):
        await self.ends("x", make="raise SystemExit(7)", status=7, err="^")

    async def test_a_start_that_raises(self):
        body = "def startService(self): 1 / 0"
        await self.ends(
            "x", body=body, status=1, err="Traceback.*evserve: x: ZeroDivisionError: .*"
        )

    async def test_a_start_that_names_a_mistake(self):
        body = "def startService(self): raise OSError(28, 'No space left', 'x.db')"
        await self.ends("x", body=body, status=1, err="^evserve: x: No space left: x.db\n")

    async def test_a_failure_before_the_reactor_runs(self):
        make = "host.fail('too early')"
        await self.ends("x", make=make, status=1, err="^evserve: x: too early\n")

    async def test_an_end_before_the_reactor_runs(self):
        await self.ends("x", make="host.finish(3)", status=3, err="serves x .*")

    async def test_only_the_first_failure_is_shown(self):
        make = "host.fail('one'); host.fail('two'); host.finish(5); host.finish(0)"
        await self.ends("x", make=make, status=1, err="^evserve: x: one\n")

    async def test_a_stop_that_raises(self):
        body = "def stopService(self): 1 / 0"
        await self.ends("x", body=body, status=1, err=" serves x .*x: failed to stop.*")

    async def test_a_stop_that_never_finishes(self):
        body = "def stopService(self): return Deferred()"
        err = " serves x .*still draining after 0.1 seconds: abandoned x"
        await self.ends("x", body=body, status=1, err=err)


class TwistTests(Case):
    """`twist evserve` instead of `twistd -n evserve`."""

    def twist(self, *words):
        return self.run_command(sys.executable, Path(sys.executable).with_name("twist"), *words)

    async def test_it_serves_and_stops(self):
        server = self.twist("evserve", "--port", "0")
        address = re.compile(rb'"tcp (127\.0\.0\.1:\d+)"')
        found = await server.until(lambda: b"names" in server.out and address.search(server.out))
        await self.check_echo(f"tcp:{found[1].decode()}")
        self.assertEqual(await server.stop("INT"), 0)

    async def test_a_mistake_is_one_line(self):
        child = self.twist("evserve", "--port", "abc")
        self.assertEqual(await child.ended, 1)
        line = "evserve: echo: --port 'abc': not a port number (0 to 65535)\n"
        self.assertEqual(child.err.decode(), line)

    async def test_a_service_that_cannot_start_is_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            child = self.twist("evserve", "--port", port)
            self.assertEqual(await child.ended, 1)
        line = f"evserve: echo: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        self.assertEqual(child.err.decode(), line)


class JsonTests(Case):
    async def test_each_line_of_the_log_is_one_json_object(self):
        self.write("twisted/plugins/bad.py", "raise RuntimeError('two\\nlines')")
        server = self.evserve("--log-format", "json", "--port", "0")
        await server.until(lambda: b"serves" in server.err)
        self.assertEqual(await server.stop(), 0)
        events = [json.loads(line) for line in server.err.splitlines()]
        self.assertTrue(len(events) > 2)
        self.assertTrue(all("log_format" in event for event in events))
