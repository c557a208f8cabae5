"""The echo room: send back what arrives (RFC 862), over streams and datagrams."""
