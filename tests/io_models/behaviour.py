"""What every I/O model must do, as classes to be mixed into a TestCase."""

import ast
import contextlib
import io
import resource
import signal
import socket
import tokenize

from tests.io_models.programs import (
    FOLDER,
    PATIENCE,
    UNAVAILABLE,
    Program,
    connect,
    receive,
    receive_rest,
    reset,
    send_and_read_late,
    send_until_stalled,
)


ODD = 4099  # bytes, a prime: pieces end where no buffer does
PAYLOAD = (bytes(range(256)) * 41)[:-1] * 1000  # 10.5 MB, of a period that is no power of two
MUCH = 64 << 20  # bytes: several times what the kernel buffers for a connection
CODE = 60  # lines at most that are neither blank nor comments nor docstrings
LINES = 92  # lines of the whole file at most


class ModelBehaviour:
    """The rules for all models. `name`: of the program. `at_once`: clients that it can serve."""

    name = ""
    at_once = 50
    speaker = ""  # the name before an error about the port, if not the program's

    def start(self, **how):
        program = Program(self, self.name, **how)
        self.assertIsNotNone(program.port, program.line + program.errors)
        return program

    def converse(self, client, text):
        client.sendall(text)
        self.assertEqual(receive(client, len(text)), text.upper())

    def test_answers_in_capitals_and_in_order(self):
        client = connect(self, self.start())
        for text in (b"a", b"bc\nde", b"\x00\xe4\xff no line end", b"\r\n", b"f" * 10_000):
            self.converse(client, text)

    def test_what_came_before_the_fin_is_answered_before_the_end(self):
        client = connect(self, self.start())
        client.sendall(b"one, two")
        client.sendall(b", three" * 10_000)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_rest(client), b"ONE, TWO" + b", THREE" * 10_000)

    def test_a_client_that_reads_late_gets_every_byte(self):
        client = connect(self, self.start())
        received = send_and_read_late(client, PAYLOAD, ODD)
        self.assertEqual(len(received), len(PAYLOAD))
        self.assertTrue(received == PAYLOAD.upper(), "it has the length, but not the bytes")

    def test_a_client_that_never_reads_is_not_read_from_without_end(self):
        client = connect(self, self.start())
        self.assertLess(send_until_stalled(client, MUCH), MUCH)

    def test_many_clients_in_turn(self):
        program = self.start()
        clients = [connect(self, program) for _ in range(self.at_once)]
        for turn in range(3):
            for client in clients:
                client.sendall(b"turn %d, " % turn)
            for number, client in reversed(list(enumerate(clients))):
                client.sendall(b"client %d" % number)
                expected = b"TURN %d, CLIENT %d" % (turn, number)
                self.assertEqual(receive(client, len(expected)), expected)

    def test_a_client_that_resets_does_not_affect_others(self):
        program = self.start()
        witness = connect(self, program) if self.at_once > 1 else None
        for _ in range(5):
            client = connect(self, program)
            self.converse(client, b"here")
            client.sendall(b"and gone" * 1000)
            reset(client)
            mute = connect(self, program)
            reset(mute)
        for client in filter(None, (witness, connect(self, program))):
            self.converse(client, b"still there")
            client.close()
        self.assertEqual(program.errors, "")

    def test_signals_end_it_and_its_children_without_output(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            program = self.start()
            client = connect(self, program)
            self.converse(client, b"hello")
            self.assertIn(program.stop(number), (0, -number))
            self.assertEqual(receive_rest(client), b"")  # so no child process keeps it open
            self.assertEqual(program.errors, "")
            self.assertEqual(program.process.stdout.read(), b"")

    def test_it_continues_after_being_stopped(self):
        program = self.start()
        client = connect(self, program)
        self.converse(client, b"before")
        for _ in range(200):  # the call in which it waits may end with EINTR
            with program.stopped():
                pass
        self.converse(client, b"after")
        for _ in range(20):
            with program.stopped():
                client.sendall(b"meanwhile")
            self.assertEqual(receive(client, 9), b"MEANWHILE")
        self.assertEqual(program.errors, "")

    def test_an_unavailable_port_is_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            for port in (str(taken.getsockname()[1]), "99999", "http"):
                program = Program(self, self.name, port)
                self.assertEqual(program.process.wait(PATIENCE), 1, port)
                self.assertEqual(program.line, "")
                self.assertRegex(program.errors, rf"\A{self.speaker or self.name}: .+\n\Z")

    def test_it_is_short_and_explains_itself(self):
        text = (FOLDER / f"{self.name}.py").read_text(encoding="utf-8")
        self.assertLessEqual(lines_of_code(text), CODE)
        self.assertLessEqual(len(text.splitlines()), LINES)
        summary, blank, *rest = ast.get_docstring(ast.parse(text)).splitlines()
        self.assertRegex(summary, r"\A[A-Za-z].+\.\Z")
        self.assertEqual(blank, "")
        for said in (r"\bcosts?\b", r"\bbreaks\b"):
            self.assertRegex("\n".join(rest), said)


def lines_of_code(text):
    """Count the lines that are neither blank nor comments nor parts of docstrings."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines, documented = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout | {tokenize.ENDMARKER}:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented.update(range(node.lineno, node.end_lineno + 1))
    return len(lines - documented)


FILES = 48  # open files that a program may have in these tests: few, but enough to start with


def few_files():
    """Limit the open files of a program that is about to start."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


class DescriptorLimit:
    """For models with a descriptor per client: what happens when none is left."""

    out = "out of descriptors: `ulimit -Hn` allows 48"

    def test_without_descriptors_it_says_so_once_and_serves_the_others(self):
        program = self.start(prepare=few_files)
        first = connect(self, program)
        self.converse(first, b"hello")
        others = []
        for _ in range(2 * FILES):
            # Twisted resets a connection for which it has no descriptor.
            with contextlib.suppress(ConnectionResetError):
                others.append(connect(self, program))
        self.assertEqual(program.wait_for_line(), f"{self.name}: {self.out}\n")
        self.converse(first, b"still there")
        served = others[0]
        self.converse(served, b"me too")
        for client in others[1:]:  # until the server has closed them as well
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
                receive_rest(client)
        self.converse(served, b"still there")
        self.converse(connect(self, program), b"and there is room again")
        self.assertEqual(program.errors, f"{self.name}: {self.out}\n")


class OptionalPackage:
    """For models that need an optional package: its name, and how it is installed."""

    package = ""
    installed_by = "'evserve[lab]'"

    def test_without_its_package_it_says_what_to_install(self):
        program = Program(self, self.name, code=f"sys.modules[{self.package!r}] = None")
        self.assertEqual(program.process.wait(PATIENCE), UNAVAILABLE)
        self.assertEqual(program.line, "")
        self.assertEqual(
            program.errors, f"{self.name}: needs {self.package}: pip install {self.installed_by}\n"
        )
