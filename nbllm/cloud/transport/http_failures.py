"""What httpx raises, as nbllm's errors: which server, what happened, what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx

from nbllm.cloud.transport.connections import Route
from nbllm.cloud.transport.timing import Deadlines
from nbllm.core.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    InterruptedStreamError,
    ProtocolError,
)

__all__ = ["idle", "interrupted", "no_answer", "silence"]

_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def no_answer(model: str, route: Route, error: Exception, deadlines: Deadlines) -> ApiError:
    """Why no answer came on this way. ``error`` is httpx's and is not kept."""
    where = f"{route.url.scheme}://{route.url.netloc.decode('ascii')}"
    match error:
        case httpx.ConnectTimeout():
            return ApiTimeoutError(
                model,
                f"no connection to {route.next_stop} within {deadlines.connect:g} s "
                f"(connect_timeout). {_hint(route)}",
                retryable=True,
                was_sent=False,
            )
        case httpx.TimeoutException():
            return ApiTimeoutError(
                model,
                f"{where} did not accept the request within {deadlines.stall:g} s (stall_timeout)",
                retryable=True,
            )
        case httpx.ProxyError():
            return ApiConnectionError(
                model,
                f"the proxy for {where} failed: {error}.",
                retryable=True,
                was_sent=False,
            )
        case httpx.ConnectError():
            return _no_connection(model, route, where, error)
        case httpx.NetworkError():
            return ApiConnectionError(
                model, f"the connection to {where} broke before a response arrived", retryable=True
            )
        case httpx.RemoteProtocolError() if "disconnected" in str(error):
            return ApiConnectionError(
                model, f"{where} closed the connection without a response", retryable=True
            )
        case httpx.RemoteProtocolError() | httpx.DecodingError():
            return ProtocolError(
                model, f"{where} did not send a valid HTTP response: {error}. {_ADDRESS}"
            )
        case _:
            return ApiConnectionError(model, f"the request to {where} failed: {error}. {_ADDRESS}")


_RUNNING = "Is the server running, and is base_url its address?"
_ADDRESS = "Is base_url correct, with the right scheme (http or https)?"


def _hint(route: Route) -> str:
    return _RUNNING if route.proxy is None else "Is the proxy running, and is its address correct?"


def _no_connection(model: str, route: Route, where: str, error: Exception) -> ApiConnectionError:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ApiConnectionError(
                model,
                f"the certificate of {where} is not trusted: {cause.verify_message}. If the "
                "server uses its own CA, set the environment variable SSL_CERT_FILE to the "
                "CA's file.",
                was_sent=False,
            )
        if isinstance(cause, ssl.SSLError):
            return ApiConnectionError(
                model,
                f"the TLS handshake with {where} failed: {cause.reason or cause}. {_ADDRESS}",
                was_sent=False,
            )
        if isinstance(cause, socket.gaierror):
            return ApiConnectionError(
                model,
                f"the host name in {route.next_stop} was not found ({cause.strerror}). Is it "
                "spelled correctly, and is this machine online?",
                retryable=cause.errno not in _NO_SUCH_HOST,
                was_sent=False,
            )
    reason = next(
        (c.strerror for c in _causes(error) if isinstance(c, OSError) and c.strerror), None
    )
    told = f" ({reason.lower()})" if reason else ""
    return ApiConnectionError(
        model,
        f"no connection to {route.next_stop}{told}. {_hint(route)}",
        retryable=True,
        was_sent=False,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What led to ``error``, groups opened, the nearest first."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        cause = waiting.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            behind = cause.__cause__ or cause.__context__
            waiting += [*getattr(cause, "exceptions", ()), *([behind] if behind else [])]


def interrupted(model: str, error: Exception, partial_text: str) -> InterruptedStreamError:
    """The connection broke after the answer had begun."""
    return InterruptedStreamError(
        model,
        f"the connection broke before the answer was complete ({error or type(error).__name__}); "
        "the text so far is in partial_text. Send the request again.",
        retryable=True,
        partial_text=partial_text,
    )


def silence(model: str, seconds: float, *, first: bool, partial_text: str = "") -> ApiTimeoutError:
    """A deadline passed: that of the first token, or that of the silence after it."""
    option, what = (
        ("first_token_timeout", "no first token") if first else ("stall_timeout", "no more data")
    )
    rest = " The text so far is in partial_text." if partial_text else ""
    return ApiTimeoutError(
        model,
        f"{what} within {seconds:g} s.{rest} Raise {option} to wait longer.",
        retryable=first,
        partial_text=partial_text,
    )


def idle(model: str, seconds: float, partial_text: str) -> ApiTimeoutError:
    """Bytes came for a long time, and nothing of the answer was in them."""
    return ApiTimeoutError(
        model,
        f"the connection was kept alive, but no more of the answer arrived within {seconds:g} s. "
        "The text so far is in partial_text. Raise first_token_timeout to wait longer.",
        partial_text=partial_text,
    )
