"""Mistakes in options and config files: one line on standard error and status 1."""
# ruff: noqa: E501 - one line per row of a table

import socket
import sys

from tests.integration.commands import CommandCase
from tests.integration.processes import TWISTD
from tests.ports import free_port


PORT = "not a port number (0 to 65535)"
SECONDS = "not a number of seconds (such as 2 or 0.5)"
KINDS = "unknown kind (known: tcp, tcp6, ssl, tls, unix, systemd, haproxy)"
COMMAND_LINES = [
    (["--port", "99999"], f"echo: --port '99999': {PORT}"),
    (["--port", "abc"], f"echo: --port 'abc': {PORT}"),
    (["--port", "-1"], f"echo: --port '-1': {PORT}"),
    (["--port", ""], f"echo: --port '': {PORT}"),
    (["--port", "٣"], f"echo: --port '٣': {PORT}"),
    (["--port"], "option --port requires argument"),
    (["--prot", "0"], "option --prot not recognized; did you mean 'port'?"),
    (["--transform", "upper"], "option --transform not recognized (the options of a service stand after its name)"),
    (["--port", "0", "echo", "--port", "x"], f"echo: --port 'x': {PORT}"),
    (["--listen", "tcp:xyz"], "echo: bad endpoint 'tcp:xyz': 'xyz' is " + PORT),
    (["--listen", "tcp:99999"], "echo: bad endpoint 'tcp:99999': '99999' is " + PORT),
    (["--listen", ""], f"echo: bad endpoint '': {KINDS}"),
    (["--listen", "stdio:", "--workers", "2"], "echo: bad endpoint 'stdio:': standard input accepts no connections"),
    (["--listen", "smoke:1"], f"echo: bad endpoint 'smoke:1': {KINDS}"),
    (["--listen", "tls:nowhere"], "echo: bad endpoint 'tls:nowhere': no folder 'nowhere' with certificates"),
    (["--listen", "unix:/nowhere/x"], "echo: cannot listen on /nowhere/x: No such file or directory"),
    (["--listen", "tcp6:0", "--interface", "0.0.0.0"], "echo: bad endpoint 'tcp6:0': 0.0.0.0 is not an IPv6 address"),
    (["--port", "9000", "--listen", "tcp:9000"], "echo: 'tcp:9000' is in use: 'tcp:9000' of echo"),
    (["--interface", "192.0.2.1", "--port", "0"], "echo: cannot listen on 192.0.2.1:0: Cannot assign requested address"),
    (["echo", "--transform", "shout"], "echo: --transform 'shout': expected none or upper"),
    (["--max-connections", "0"], "echo: --max-connections '0': not a whole number above 0"),
    (["--idle-timeout", "x"], f"echo: --idle-timeout 'x': {SECONDS}"),
    (["--drain", "inf"], f"--drain 'inf': {SECONDS}"),
    (["echo", "--drain", "9" * 400], f"--drain '{'9' * 400}': {SECONDS}"),
    (["--log-format", "xml"], "--log-format 'xml': expected text or json"),
    (["ecko"], "no service named 'ecko'; did you mean 'echo'?"),
    ([""], "no service named '' ('twistd -n evserve services' lists them)"),
    (["echo", "extra"], "echo: unexpected argument 'extra'"),
    (["services", "--port", "1"], "services: no such option --port"),
    (["--port", "1", "services"], "services: no such option --port"),
    (["web", "--listen", "tcp:xyz"], "web: invalid literal for int() with base 10: 'xyz'"),
    (["web", "--listen", "tcp:99999"], "web: bind(): port must be 0-65535."),
    (["echo", "--config", "x"], "--config must stand before 'echo'"),
    (["--config", "x", "echo"], "--config names the services to run (remove echo)"),
    (["--config", "x", "--port", "1"], "--config names the services to run (remove --port)"),
    (["--config", "nowhere.toml"], "nowhere.toml: No such file or directory"),
    (["--config", "."], ".: Is a directory"),
    (["--config", ""], "'': Is a directory"),
    (["--plugin-dir", "nowhere"], "plugin-dir: no plugin folder 'nowhere'"),
]  # fmt: skip
FILES = [
    ("", "no services (add a table such as [services.echo])"),
    ("[services.echo]\nprot = 1", "[services.echo] unknown key 'prot'; did you mean 'port'?"),
    ("[services.echo]\nport = 'x'", "[services.echo] port: expected a whole number, not 'x'"),
    ("[services.echo]\nport = 99999", f"[services.echo] port: '99999': {PORT}"),
    ("[services.echo]\nlisten = ['tcp:xyz']", "[services.echo] listen: bad endpoint 'tcp:xyz': 'xyz' is " + PORT),
    ("[services.echo]\nmax-connections = 0", "[services.echo] max-connections: '0': not a whole number above 0"),
    ('[services.echo]\ninterface = "a\\u0000b"', r"[services.echo] interface: 'a\x00b': not an address (0.0.0.0 or :: for all interfaces)"),
    ("[services.ecko]", "[services.ecko] no service named 'ecko'; did you mean 'echo'?"),
    ("[services.a]\nplugin = 1", "[services.a] plugin: expected a string, not 1"),
    ("[service.echo]", "unknown table [service]; did you mean 'services'?"),
    ("[evserve]\ndran = 1\n[services.echo]", "[evserve] unknown key 'dran'; did you mean 'drain'?"),
    ("[evserve]\ndrain = 'x'\n[services.echo]", "[evserve] drain: expected a number, not 'x'"),
    ("[evserve]\nport = 1\n[services.echo]", "[evserve] port: belongs in a [services.NAME] table"),
    ("[evserve]\nplugin-dir = 'no'\n[services.echo]", "[evserve] plugin-dir: no plugin folder 'no'"),
    ("[evserve]\nworkers = 2\n[services.echo]\nudp = true", "[evserve] workers: 'echo' needs one process for --udp"),
    ("[services.web]\nport = 1\nlsten = 1", "[services.web] unknown key 'lsten'; did you mean 'listen'?"),
    ("[services.echo", "not valid TOML: Expected ']' at the end of a table declaration (at end of document)"),
]  # fmt: skip


class BadInputTests(CommandCase):
    async def test_each_mistake_on_the_command_line_is_one_line(self):
        await self.check_rows(COMMAND_LINES, self.check_error)

    async def test_each_mistake_in_a_config_file_is_one_line_that_names_it(self):
        rows = []
        for number, (text, line) in enumerate(FILES):
            self.write(f"{number}.toml", text)
            rows.append((["--config", f"{number}.toml"], f"{number}.toml: {line}"))
        await self.check_rows(rows, self.check_error)

    async def test_a_port_in_use_is_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = f"echo: cannot listen on 127.0.0.1:{port}: Address already in use"
            await self.check_error(["--port", port], line)

    async def test_a_socket_in_use_is_one_line(self):
        server = self.evserve("--listen", "unix:echo.sock")
        await server.listening("unix")
        line = "echo: cannot listen on echo.sock: Address already in use"
        await self.check_error(["--listen", "unix:echo.sock"], line)

    async def test_what_is_no_socket_is_one_line_and_is_left_as_it_was(self):
        self.write("plain", "text")
        await self.check_error(
            ["--listen", "unix:plain"], "echo: cannot listen on plain: Address already in use"
        )
        self.assertEqual([each.name for each in self.folder.iterdir()], ["plain"])

    async def test_a_log_file_that_cannot_be_written_is_one_line(self):
        words = (sys.executable, TWISTD, "--logfile", "/nowhere/x", "evserve", "--port", "0")
        child = self.run_command(*words)
        self.assertEqual(await child.ended, 1)
        line = b"evserve: twistd's --logfile /nowhere/x: No such file or directory\n"
        self.assertEqual((child.err, child.out), (line, b""))

    def write_two(self, port, interface):
        self.write(
            "two.toml",
            f"[services.one]\nplugin = 'echo'\nport = {port}\n"
            f"[services.two]\nplugin = 'echo'\nport = {port}\ninterface = '{interface}'\n",
        )

    async def test_two_services_on_one_port_leave_nothing_half_started(self):
        port = free_port()
        self.write_two(port, "localhost")  # which is looked up when the service listens
        line = f"two: cannot listen on localhost:{port}: Address already in use"
        await self.check_error(["--config", "two.toml"], line)

    async def test_two_services_on_one_port_are_a_mistake_in_the_file(self):
        self.write_two(9000, "127.0.0.1")
        line = "two.toml: two: 'tcp:9000' is in use: 'tcp:9000' of one"
        await self.check_error(["--config", "two.toml"], line)
        await self.check_error(["--config", "two.toml", "--check"], line)

    async def test_checking_says_ok_and_starts_nothing(self):
        self.write("good.toml", "[services.a]\nplugin = 'echo'\nport = 0\n[services.web]\n")
        for words, shown in (
            (["--config", "good.toml", "--check"], "good.toml: OK (a, web)\n"),
            (["--check", "--port", "0"], "command line: OK (echo)\n"),
            (["echo", "--check"], "command line: OK (echo)\n"),
        ):
            child = self.evserve(*words)
            self.assertEqual(await child.ended, 0)
            self.assertEqual((child.out.decode(), child.err), (shown, b""))
