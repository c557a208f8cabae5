"""The two clients of examples/, run as programs."""

from twisted.trial.unittest import TestCase

from tests.integration.processes import EXAMPLES, need_open_files, run_example, run_python, spawn


# Runs the program named first with a soft limit below the files it needs.
WITH_FEW_FILES = """
import resource, runpy, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MANY = ("--connections", "3000", "--timeout", "250")
REFUSED = "tcp:127.0.0.1:1"  # no server listens there


class ExampleTestCase(TestCase):
    async def serve(self, *words):
        self.server = spawn(self, "echo", "--port", "0", *words)
        self.endpoint = f"tcp:{await self.server.listening()}"


class EchoClientTests(ExampleTestCase):
    def start(self, endpoint):
        return run_example(self, "echo_client.py", "--connect", endpoint)

    async def test_it_prompts_shows_what_comes_back_and_quits(self):
        await self.serve("--transform", "upper")
        client = self.start(self.endpoint)
        await client.shows(b">>> ")
        client.transport.write(b"hello\n")
        await client.shows(b"HELLO\n>>> ")
        client.transport.write(b"q\n")
        self.assertEqual(await client.ended, 0)
        self.assertEqual((client.out, client.err), (b">>> HELLO\n>>> ", b""))

    async def test_quitting_waits_for_missing_answers(self):
        await self.serve("--delay", "0.2")
        client = self.start(self.endpoint)
        client.transport.write(b"one\ntwo\nq\n")
        self.assertEqual(await client.ended, 0)
        self.assertIn(b"one\ntwo\n", client.out)

    async def test_the_end_of_standard_input_quits_after_its_last_line(self):
        await self.serve()
        client = self.start(self.endpoint)
        client.transport.write(b"one\ntwo")
        client.transport.closeStdin()
        self.assertEqual(await client.ended, 0)
        self.assertIn(b"one\ntwo\n", client.out)

    async def test_a_server_that_goes_away_is_one_line_and_status_1(self):
        await self.serve()
        client = self.start(self.endpoint)
        await client.shows(b">>> ")
        await self.server.stop()
        self.assertEqual(await client.ended, 1)
        self.assertEqual(client.err.decode(), f"{self.endpoint} has closed the connection\n")

    async def test_a_refused_connection_is_one_line_and_status_1(self):
        client = self.start(REFUSED)
        self.assertEqual(await client.ended, 1)
        (line,) = client.err.decode().splitlines()
        self.assertIn(f"cannot connect to {REFUSED}", line)


class ManyClientsTests(ExampleTestCase):
    def start(self, endpoint, *words):
        return run_example(self, "many_clients.py", "--connect", endpoint, *words)

    async def test_3000_connections_get_every_byte_back_in_order(self):
        need_open_files(3100)
        await self.serve()
        clients = self.start(self.endpoint, "--messages", "3", *MANY)
        self.assertEqual(await clients.ended, 0, clients.err)
        self.assertTrue(clients.out.startswith(b"3000 connections, 9000 messages, "), clients.out)

    async def test_messages_larger_than_any_buffer_are_compared_too(self):
        await self.serve()
        clients = self.start(self.endpoint, "--connections", "3", "--size", "300000")
        self.assertEqual(await clients.ended, 0, clients.err)

    async def test_a_reply_that_differs_is_one_line_and_status_1(self):
        await self.serve("--suffix", "!")
        clients = self.start(self.endpoint, "--connections", "5")
        self.assertEqual(await clients.ended, 1)
        (line,) = clients.err.decode().splitlines()
        self.assertIn("failed: sent", line)

    async def test_a_refused_connection_is_one_line_and_status_1(self):
        clients = self.start(REFUSED, "--connections", "2")
        self.assertEqual(await clients.ended, 1)
        self.assertEqual(len(clients.err.splitlines()), 1)

    async def test_a_bad_endpoint_is_one_line_and_status_1(self):
        for endpoint in ("smoke:1", "tcp:x"):
            child = run_example(self, "many_clients.py", "--connect", endpoint)
            self.assertEqual(await child.ended, 1)
            self.assertTrue(child.err.startswith(f"bad endpoint {endpoint}: ".encode()), child.err)
            self.assertEqual(child.err.count(b"\n"), 1, child.err)

    async def test_the_soft_file_limit_is_raised(self):
        await self.serve()
        clients = run_python(
            self,
            *("-c", WITH_FEW_FILES, EXAMPLES / "many_clients.py"),
            *("--connect", self.endpoint, "--connections", "300"),
        )
        self.assertEqual(await clients.ended, 0, clients.err)
