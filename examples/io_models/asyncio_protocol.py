"""asyncio protocols: callbacks that the event loop calls when something has happened.

`data_received` is called with what has come, and `transport.write` sends at once what the kernel
takes and keeps the rest. There is no task and no `await` on the way of a byte.

It costs an object or two for each connection, half of what streams take. For each message asyncio
asks `recv` for 256 KiB, a buffer so large that the C library maps it and unmaps it again: three
system calls more. What a coroutine keeps in local variables, a protocol keeps in attributes.

It breaks at the limit of open files (asyncio then stops accepting for a second), and with a
callback that takes its time. Back-pressure is the author's duty: without the two methods for it
here, a client that does not read its answers would fill the memory.
"""

import asyncio
import socket
from typing import Any

from _common import complain, listen


def on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in one line what asyncio would log with a traceback."""
    complain(f"{context['message']}: {context.get('exception')}")


class Capitals(asyncio.Protocol):
    """The conversation with one client."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self.transport.write(data.upper())

    def pause_writing(self) -> None:
        """Stop listening to a client that does not read its answers."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Listen again: the answers are on their way."""
        self.transport.resume_reading()


async def main() -> None:
    """Start the server; its protocols do the rest."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_trouble)
    server = await loop.create_server(Capitals, sock=listen(), backlog=socket.SOMAXCONN)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
