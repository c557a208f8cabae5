"""The asgi service: `twistd -n evserve asgi module:app`."""

from evserve.plugin import ServicePlugin


asgi = ServicePlugin(
    "asgi",
    "evserve.web.asgi.service",
    "Serve an ASGI application: Starlette, FastAPI, Django, Quart.",
    stateless=True,
)
