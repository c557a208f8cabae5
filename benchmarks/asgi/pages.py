"""What the application answers."""

from typing import Final


HELLO: Final = b"hello, world"
JSON: Final = b'{"user":"7","query":{"full":"1"}}'
"""Of `/users/7?full=1`."""

CHUNK: Final = b"x" * 65536
CHUNKS: Final = 16
"""In how many pieces `/stream` is sent, each of which is CHUNK."""
