"""Handlers that await libraries of asyncio: what the worker of test_asyncio_libraries.py runs.

Each puts a question to the server whose address is the body of its event, and returns the answer.
How long the server takes is up to the test. Those named `shared_...` have one client for all
events, with one connection: if a cancelled event kept that, the next would wait for ever.
"""

import asyncio
import contextlib
import functools
import socket
import sys

import aiohttp
import aiosmtplib
import anyio
import asyncpg
import httpx
import psycopg
import redis.asyncio
from websockets.asyncio.client import connect


HANDLERS = {}
SELECT = "SELECT 'answer' FROM pg_advisory_xact_lock_shared(1)"
CHILD = """
import socket, sys
with socket.create_connection((sys.argv[1], sys.argv[2])) as connection:
    connection.sendall(b"question")
    print(connection.recv(100).decode())
"""


def handler(ask):
    """Have `ask` called with the address; log what it did of a cancellation, once it has ended."""

    @functools.wraps(ask)
    async def handle(event):
        try:
            return await ask(event.body.decode())
        except asyncio.CancelledError:
            # The connection is closed by now: that was up to a `finally` or `async with`.
            print(f"{ask.__name__} was cancelled in {type(asyncio.current_task()).__name__}")
            raise

    HANDLERS[ask.__name__] = handle
    return handle


def host_and_port(address):
    host, port = address.split(":")
    return host, int(port)


async def ask_by_streams(address):
    reader, writer = await asyncio.open_connection(*host_and_port(address))
    try:
        writer.write(b"question")
        return await reader.read(100)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@handler
async def asyncio_timeout(address):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(3600)
    async with asyncio.timeout(3600):
        return await ask_by_streams(address)


@handler
async def asyncio_task_group(address):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask_by_streams(address)) for _ in range(3)]
    (answer,) = {task.result() for task in tasks}
    return answer


@handler
async def asyncio_gather(address):
    (answer,) = set(await asyncio.gather(*(ask_by_streams(address) for _ in range(3))))
    return answer


@handler
async def asyncio_to_thread(address):
    with socket.create_connection(host_and_port(address)) as connection:
        connection.sendall(b"question")
        try:
            return await asyncio.to_thread(connection.recv, 100)
        finally:
            connection.shutdown(socket.SHUT_RDWR)  # a thread that waits for ever cannot be ended


@handler
async def asyncio_subprocess(address):
    words = [sys.executable, "-IS", "-c", CHILD, *address.split(":")]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        answer, _ = await process.communicate()
        assert process.returncode == 0
        return answer.strip()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@handler
async def anyio_task_group(address):
    answers = set()

    async def ask():
        async with await anyio.connect_tcp(*host_and_port(address)) as stream:
            await stream.send(b"question")
            answers.add(await stream.receive())

    with anyio.move_on_after(0.01):
        await anyio.sleep_forever()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
    (answer,) = answers
    return answer


@handler
async def httpx_client(address):
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
        return (await client.get(f"http://{address}/")).text


@handler
async def shared_httpx_client(address):
    return (await _httpx_client.get(f"http://{address}/")).text


_httpx_client = httpx.AsyncClient(
    timeout=None, trust_env=False, limits=httpx.Limits(max_connections=1)
)


@handler
async def aiohttp_session(address):
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/") as response:
        return await response.text()


@handler
async def shared_aiohttp_session(address):
    async with _aiohttp_session().get(f"http://{address}/") as response:
        return await response.text()


@functools.cache
def _aiohttp_session():  # it needs a loop that runs
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))


@handler
async def aiosmtplib_client(address):
    host, port = host_and_port(address)
    client = aiosmtplib.SMTP(hostname=host, port=port, timeout=None)
    await client.connect()
    try:
        _, answer = await client.sendmail("from@example.com", ["to@example.com"], b"question")
        return answer
    finally:
        client.close()  # at its end `async with` would wait for the server again


@handler
async def websockets_client(address):
    async with connect(f"ws://{address}/", proxy=None) as connection:
        await connection.send("question")
        return await connection.recv()


@handler
async def asyncpg_connection(address):
    connection = await asyncpg.connect(address)
    try:
        return await connection.fetchval(SELECT)
    finally:
        await connection.close()


@handler
async def shared_asyncpg_pool(address):
    async with _asyncpg_lock:
        pool = await _asyncpg_pool(address)
    async with pool.acquire() as connection:
        return await connection.fetchval(SELECT)


_asyncpg_lock = asyncio.Lock()


@functools.cache
def _asyncpg_pool(address):
    return asyncpg.create_pool(address, min_size=1, max_size=1)


@handler
async def psycopg_connection(address):
    async with await psycopg.AsyncConnection.connect(address) as connection:
        cursor = await connection.execute(SELECT)
        return (await cursor.fetchone())[0]


@handler
async def redis_client(address):
    async with redis.asyncio.Redis.from_url(address, socket_timeout=None) as client:
        return await client.blmove("answers", "answers", 0)


@handler
async def shared_redis_pool(address):
    async with redis.asyncio.Redis(connection_pool=_redis_pool(address)) as client:
        return await client.blmove("answers", "answers", 0)


@functools.cache
def _redis_pool(address):
    pool = redis.asyncio.BlockingConnectionPool
    return pool.from_url(address, max_connections=1, timeout=None, socket_timeout=None)
