"""asyncio streams: a coroutine for each connection, with `await` wherever it has to wait.

The code is that of the blocking server, with the places marked where others may run. Beneath it
are callbacks: a transport reads what comes and fills a buffer, and `read` waits for that. `drain`
waits while the client does not read its answers; without it they would pile up here.

It costs a task and two buffers for each connection, and several Python callbacks for each message:
more than protocols, in exchange for the code that is easiest to read.

It breaks at the limit of open files (asyncio then stops accepting for a second), and with a
coroutine that computes or makes a blocking call instead of awaiting.
"""

import asyncio
import contextlib
import socket
from typing import Any

from _common import listen, warn


def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Print in one line what asyncio would log with a traceback."""
    warn(f"{context['message']}: {context.get('exception')}")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
    writer.close()


async def main() -> None:
    """Start the server; its tasks do the rest."""
    asyncio.get_running_loop().set_exception_handler(on_error)
    server = await asyncio.start_server(serve, sock=listen(), backlog=socket.SOMAXCONN)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
