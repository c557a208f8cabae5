"""Servers on loopback that answer questions when a test wants it.

Each is the server of one client, so that the connections it has are that client's. All have

address: where it listens, as its client wants it.
waiting: how many questions it has received and not answered.
clients: how many connections it has.
answer(): answer what is asked from now on, and what waits; hold(): answer nothing.
"""

import asyncio
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from threading import Event, Thread
from unittest import SkipTest

from aiosmtpd.smtp import SMTP
from websockets.asyncio.server import serve

from tests.integration.postgres import fresh_database


class LoopThread:
    """A loop of asyncio's in a thread, whatever the reactor of the tests."""

    def __init__(self, test):
        self._runs = Event()
        self._thread = Thread(target=asyncio.run, args=(self._main(),), daemon=True)
        self._thread.start()
        self._runs.wait()
        test.addCleanup(self._end)

    async def _main(self):
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._runs.set()
        await self._over.wait()

    def call(self, coroutine):
        """Run a coroutine to its end; return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end(self):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


class TCPServer:
    """Answers whatever it receives. Its subclasses speak the protocol of a client."""

    def __init__(self, test, thread):
        self._thread = thread
        self.waiting = self.clients = 0
        self._may_answer = asyncio.Event()
        self.address = thread.call(self._listen())

    def answer(self):
        self._thread.call(self._set(True))

    def hold(self):
        self._thread.call(self._set(False))

    async def _set(self, may_answer):
        (self._may_answer.set if may_answer else self._may_answer.clear)()

    async def _listen(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._address_of(server)

    def _address_of(self, server):
        self._server = server  # or it could be collected
        host, port = server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def _serve(self, reader, writer):
        with self._client(), suppress(asyncio.CancelledError):  # at the end of the loop
            while await self._question(reader):
                if not await self._until_answer(reader.read(1)):
                    break
                writer.write(self._reply)
        writer.close()

    async def _question(self, reader):
        return await reader.read(100)

    _reply = b"answer"

    @contextmanager
    def _client(self):
        self.clients += 1
        try:
            yield
        finally:
            self.clients -= 1

    async def _until_answer(self, gone=None):
        """Wait until the question may be answered; return False if the client has gone first."""
        gone = asyncio.ensure_future(gone or asyncio.Future())
        answer = asyncio.ensure_future(self._may_answer.wait())
        self.waiting += 1
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            return answer.done()
        finally:
            self.waiting -= 1
            for each in (answer, gone):
                each.cancel()
            await asyncio.wait([answer, gone])


class HTTPServer(TCPServer):
    _reply = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"

    async def _question(self, reader):
        with suppress(asyncio.IncompleteReadError):
            return await reader.readuntil(b"\r\n\r\n")


class WebSocketServer(TCPServer):
    async def _listen(self):
        return self._address_of(await serve(self._talk, "127.0.0.1", 0))

    async def _talk(self, connection):
        with self._client():
            await connection.recv()
            if await self._until_answer(connection.wait_closed()):
                await connection.send("answer")
            await connection.wait_closed()


class MailServer(TCPServer):
    async def _listen(self):
        loop = asyncio.get_running_loop()
        return self._address_of(await loop.create_server(self._new_connection, "127.0.0.1", 0))

    def _new_connection(self):
        return _MailConnection(self)

    async def handle_DATA(self, server, session, envelope):
        await self._until_answer()
        return "250 answer"


class _MailConnection(SMTP):
    def __init__(self, server):
        super().__init__(server, hostname="localhost")
        self._counted = server._client()

    def connection_made(self, transport):
        self._counted.__enter__()
        super().connection_made(transport)

    def connection_lost(self, error):
        super().connection_lost(error)
        self._counted.__exit__(None, None, None)


class PostgresDatabase:
    """A question is a statement that waits for a lock, which the test holds."""

    def __init__(self, test, thread):
        import psycopg

        self.address = fresh_database()
        self._connection = psycopg.connect(self.address, autocommit=True)
        test.addCleanup(self._connection.close)

    def answer(self):
        self._connection.execute("SELECT pg_advisory_unlock_all()")

    def hold(self):
        self._connection.execute("SELECT pg_advisory_lock(1)")

    @property
    def waiting(self):
        return self._count("wait_event = 'advisory'")

    @property
    def clients(self):
        return self._count("pid <> pg_backend_pid()")

    def _count(self, condition):
        (count,) = self._connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE datname = current_database() AND {condition}"
        ).fetchone()
        return count


class RedisServer:
    """A question waits for an element of a list, and leaves it there.

    redis-server listens on a UNIX socket in a folder of its own, and writes no other file.
    """

    def __init__(self, test, thread):
        import redis

        program = shutil.which("redis-server")
        if program is None:
            raise SkipTest("redis-server is not installed")
        self._folder = tempfile.mkdtemp(dir="/tmp")  # the path of a socket must be short
        options = ["--port", "0", "--unixsocket", "socket", "--save", "", "--daemonize", "no"]
        self._process = subprocess.Popen(
            [program, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
        )
        log = iter(self._process.stdout.readline, b"")
        if not any(b"The server is now ready to accept connections" in line for line in log):
            raise AssertionError("redis-server does not start")
        self.address = f"unix://{self._folder}/socket?decode_responses=True"
        self._client = redis.Redis.from_url(self.address)
        test.addCleanup(self._close)

    def _close(self):
        self._client.close()
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._folder)

    def answer(self):
        self._client.rpush("answers", "answer")

    def hold(self):
        self._client.delete("answers")

    @property
    def waiting(self):
        return self._client.info("clients")["blocked_clients"]

    @property
    def clients(self):
        return self._client.info("clients")["connected_clients"] - 1
