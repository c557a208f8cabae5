"""What went wrong with a connection, in words for people."""

from OpenSSL import SSL
from twisted.internet import error as errors
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from evserve.http.errors import (
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FetchError,
    TLSFailed,
)
from evserve.http.tls import verdict_of
from evserve.http.url import Origin


_OLD_TLS = ("unsupported protocol", "protocol version", "wrong version number", "version too low")


def explain_connecting(failure: Failure, origin: Origin) -> FetchError:
    """Return the error for a connection to `origin` that was never made."""
    error = failure.value
    if isinstance(error, FetchError):
        return error
    if isinstance(error, errors.DNSLookupError):
        return ConnectFailed(f"the name {origin.host} cannot be resolved")
    if isinstance(error, CancelledError):
        return Cancelled("given up while connecting")
    if isinstance(error, errors.TimeoutError | errors.TCPTimedOutError):
        return ConnectTimeout(f"{origin} does not answer")
    if isinstance(error, errors.ConnectionRefusedError):
        return ConnectFailed(f"{origin} refuses connections")
    return ConnectFailed(f"cannot connect to {origin}: {str(error) or type(error).__name__}")


def explain_loss(failure: Failure, transport: object) -> FetchError:
    """Return the error for a connection that ended, TLS's reasons included."""
    error = failure.value
    if isinstance(error, SSL.Error):
        return TLSFailed(verdict_of(transport) or _openssl(error))
    if isinstance(error, errors.ConnectionDone):
        return ConnectionLost("the connection was closed")
    return ConnectionLost(f"the connection broke: {str(error).rstrip('.')}")


def _openssl(error: SSL.Error) -> str:
    details = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = "; ".join(str(each[-1]) for each in details) or "the handshake failed"
    if any(old in words for old in _OLD_TLS):
        return f"the server does not speak TLS 1.2 or later ({words})"
    return f"TLS failed: {words}"
