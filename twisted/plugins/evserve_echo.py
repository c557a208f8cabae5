"""The echo service: `twistd -n evserve echo`."""

from evserve.plugin import ServicePlugin


echo = ServicePlugin(
    "echo", "evserve.echo.service", "Send back what arrives (RFC 862).", stateless=True
)
