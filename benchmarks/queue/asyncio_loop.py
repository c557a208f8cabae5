"""Runs a coroutine on uvloop, the fastest loop that the asyncio libraries have."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvloop


def run_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run `coroutine` to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)
