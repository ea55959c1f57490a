"""What httpx raises, as nbllm's errors: which server, what happened, what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx

from nbllm.cloud.deadlines import Deadlines
from nbllm.cloud.routes import Route
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
            )
        case httpx.TimeoutException():
            return ApiTimeoutError(
                model,
                f"{where} did not take the request within {deadlines.stall:g} s (stall_timeout)",
                retryable=True,
            )
        case httpx.ProxyError():
            return ApiConnectionError(
                model,
                f"the proxy on the way to {where} failed: {error}.",
                retryable=True,
            )
        case httpx.ConnectError():
            return _no_connection(model, route, where, error)
        case httpx.NetworkError():
            return ApiConnectionError(
                model, f"the connection to {where} broke before an answer came", retryable=True
            )
        case httpx.RemoteProtocolError() if "disconnected" in str(error):
            return ApiConnectionError(
                model, f"{where} closed the connection without an answer", retryable=True
            )
        case httpx.RemoteProtocolError() | httpx.DecodingError():
            return ProtocolError(
                model, f"what {where} answers is not HTTP as it should be: {error}. {_ADDRESS}"
            )
        case _:
            return ApiConnectionError(model, f"{where} cannot be asked: {error}. {_ADDRESS}")


_RUNNING = "Is the server running, and is base_url its address?"
_ADDRESS = "Is base_url right, and is it http or https?"


def _hint(route: Route) -> str:
    return _RUNNING if route.proxy is None else "Is the proxy running, and is it the right one?"


def _no_connection(model: str, route: Route, where: str, error: Exception) -> ApiConnectionError:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ApiConnectionError(
                model,
                f"the certificate of {where} is not trusted: {cause.verify_message}. Where the "
                "server has a CA of its own, name the CA's file in the environment variable "
                "SSL_CERT_FILE.",
            )
        if isinstance(cause, ssl.SSLError):
            return ApiConnectionError(
                model, f"no TLS with {where}: {cause.reason or cause}. {_ADDRESS}"
            )
        if isinstance(cause, socket.gaierror):
            return ApiConnectionError(
                model,
                f"the name in {route.next_stop} leads to no address ({cause.strerror}). Is "
                "it written right, and is this machine online?",
                retryable=cause.errno not in _NO_SUCH_HOST,
            )
    reason = next(
        (c.strerror for c in _causes(error) if isinstance(c, OSError) and c.strerror), None
    )
    told = f" ({reason.lower()})" if reason else ""
    return ApiConnectionError(
        model, f"no connection to {route.next_stop}{told}. {_hint(route)}", retryable=True
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
        f"the connection broke before the answer was whole ({error or type(error).__name__}); "
        "what had arrived is in partial_text. Ask again to get a whole answer.",
        retryable=True,
        partial_text=partial_text,
    )


def silence(model: str, seconds: float, *, first: bool, partial_text: str = "") -> ApiTimeoutError:
    """A deadline passed: that of the first token, or that of the silence after it."""
    option, what = (
        ("first_token_timeout", "the first token did not come")
        if first
        else ("stall_timeout", "nothing more came")
    )
    rest = " What had arrived is in partial_text." if partial_text else ""
    return ApiTimeoutError(
        model,
        f"{what} within {seconds:g} s.{rest} The option {option} allows more.",
        retryable=first,
        partial_text=partial_text,
    )


def idle(model: str, seconds: float, partial_text: str) -> ApiTimeoutError:
    """Bytes came for a long time, and nothing of the answer was in them."""
    return ApiTimeoutError(
        model,
        f"signs of life came, and no more of the answer within {seconds:g} s. What had arrived is "
        "in partial_text. The option first_token_timeout allows more.",
        partial_text=partial_text,
    )
