"""asyncio protocols: the event loop calls back when something has happened.

`data_received` gets the bytes that have come. `transport.write` sends at once what the kernel
accepts and keeps the rest. No task and no `await` is involved in the handling of a message.

It costs an object or two for each connection, half of what streams take. For each message asyncio
calls `recv` with a buffer of 256 KiB, so large that the C library maps and unmaps it every time:
three more system calls. State that a coroutine keeps in local variables is kept in attributes.

It breaks at the limit of open files (asyncio then stops accepting for a second), and with a slow
callback. Back-pressure is the programmer's job: without the two methods for it here, a client that
does not read its answers would fill the memory.
"""

import asyncio
import socket
from typing import Any

from _common import listen, warn


def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Print in one line what asyncio would log with a traceback."""
    warn(f"{context['message']}: {context.get('exception')}")


class Capitals(asyncio.Protocol):
    """The conversation with one client."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer in capitals."""
        self.transport.write(data.upper())

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read its answers."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again, since the answers have been sent."""
        self.transport.resume_reading()


async def main() -> None:
    """Start the server; its protocols do the rest."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_error)
    server = await loop.create_server(Capitals, sock=listen(), backlog=socket.SOMAXCONN)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
