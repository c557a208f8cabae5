"""asyncio streams: a coroutine for each connection, `await` wherever it has to wait.

The blocking server's code once more, with the places marked where others may run. Below it are
callbacks: a transport reads as much as comes and fills a buffer, and `read` waits for that.
`drain` waits while the client does not read its answers; without it they would pile up here.

It costs a task and two buffers for each connection, and several callbacks for each message, all
of it Python: more than the protocols below it, for the code that is the easiest to read.

It breaks at the limit of open files (asyncio then stops accepting for a second), and with a
coroutine that computes, or calls what blocks, instead of awaiting.
"""

import asyncio
import contextlib
import functools
import resource
import signal
import socket
import sys
from typing import Any


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"asyncio_streams: {error}")
    print(f"asyncio_streams: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"asyncio_streams: {reason}", file=sys.stderr)


def on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in one line what asyncio would log with a traceback."""
    complain(f"{context['message']}: {context.get('exception')}")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
    writer.close()


async def main() -> None:
    """Start the server; its tasks do the rest."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.get_running_loop().set_exception_handler(on_trouble)
    server = await asyncio.start_server(serve, sock=listen(), backlog=socket.SOMAXCONN)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
