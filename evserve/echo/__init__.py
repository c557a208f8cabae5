"""The echo service: send back what arrives (RFC 862), over streams and datagrams.

    service    Options and makeService, which the plugin names
    protocol   EchoFactory, the protocols it builds, Transform, what TLS needs
    delay      DelayQueue, for --delay
    datagrams  --udp: the protocol, and the service that listens
    console    --console: commands on standard input

The way of a byte:

1. The host listens with `EchoFactory`. Its `buildProtocol` chooses the cheapest protocol: `Echo`,
   `TransformedEcho` or `DelayedEcho`.
2. `Echo.connectionMade` registers the transport as its own producer and binds `dataReceived` to
   the transport's `write`. From then on a byte crosses no code of this package.
3. With a transform it crosses `TransformedStream.feed`, with a delay also a `DelayQueue`.
4. At the end of the stream, or when the host drains, it closes once everything is sent.

A datagram crosses `EchoDatagrams.datagramReceived` and `Transform.datagram`.
"""

from evserve.echo.protocol import EchoFactory, Transform


__all__ = ["EchoFactory", "Transform"]
