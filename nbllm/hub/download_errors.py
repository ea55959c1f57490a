"""What a server refuses, and what goes wrong on the way, each in one line with a remedy."""

from __future__ import annotations

import errno
import math
import socket
import ssl
from collections.abc import Iterator

import httpx

from nbllm.core.errors import DownloadError
from nbllm.core.paths import reason
from nbllm.core.texts import capped, shown
from nbllm.core.words import duration_words, size_words
from nbllm.hub.names import HubName

__all__ = ["disk_error", "network_error", "refused", "requested_delay"]

_TOKENS = "https://huggingface.co/settings/tokens"
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_WINDOWS_FULL = 112
_KEPT = "What has arrived is kept; pull again to continue."


def refused(
    name: HubName | None, where: str, response: httpx.Response, *, has_token: bool
) -> DownloadError:
    """Why a response that is no success means that there is nothing to download.

    ``name`` is what was asked of the hub, None where another server answered.
    """
    status = response.status_code
    delay = requested_delay(response)
    problem = _hub_problem(name, response, has_token=has_token) if name is not None else None
    return DownloadError(
        where,
        problem or _problem(status, response.url.host, delay, has_token=has_token),
        status=status,
        retry_after_seconds=delay,
    )


def _hub_problem(name: HubName, response: httpx.Response, *, has_token: bool) -> str | None:
    status, code = response.status_code, response.headers.get("x-error-code", "")
    page = f"https://huggingface.co/{name.repository}"
    if code == "GatedRepo":
        if has_token:
            return f"the repository is gated, and your token has no access. Request it at {page}"
        return (
            f"the repository is gated. Accept its terms at {page}, then set HF_TOKEN to a token "
            f"from {_TOKENS}"
        )
    if code == "RevisionNotFound":
        return f"the repository has no revision {shown(name.revision)}"
    if code == "EntryNotFound":
        return "the repository has no such file; the listing may have changed. Pull again"
    if status == 401 and has_token:
        return f"the hub does not accept the token in HF_TOKEN. Make a new one at {_TOKENS}"
    if code == "RepoNotFound" or status in (401, 404):
        return f"there is no such repository, or it is private. Check the name at {page}" + (
            "" if has_token else f"; for a private one set HF_TOKEN to a token from {_TOKENS}"
        )
    if status == 403:
        return f"the hub denies access (HTTP 403). Look at {page}; it may need HF_TOKEN"
    return None


def _problem(status: int, host: str, delay: float | None, *, has_token: bool) -> str:
    if status == 429:
        wait = f"in {duration_words(delay)}" if delay is not None else "in a few minutes"
        more = "" if has_token else ", or set HF_TOKEN, which raises the limit"
        return f"{host} is limiting requests (HTTP 429). Try again {wait}{more}. {_KEPT}"
    if status in (404, 410):
        return f"{host} has no such file (HTTP {status}). Check the address"
    if status in (401, 403):
        return f"{host} denies access (HTTP {status})"
    if status >= 500:
        wait = f"in {duration_words(delay)}" if delay is not None else "later"
        return f"{host} failed (HTTP {status}). Try again {wait}. {_KEPT}"
    return f"{host} answered with HTTP status {status}, which is no download"


def requested_delay(response: httpx.Response) -> float | None:
    """The seconds that the server wants a client to wait, None where it does not say."""
    told = response.headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= 30 * 86_400 else None


# ---------------------------------------------------------------- on the way


def network_error(
    where: str, host: str, error: Exception, *, is_transfer: bool = False
) -> DownloadError:
    """Why a server was not reached, or broke off again and again. ``error`` is httpx's."""
    problem = _network_problem(host, error)
    return DownloadError(where, f"{problem}. {_KEPT}" if is_transfer else problem)


def _network_problem(host: str, error: Exception) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {host} is not trusted ({cause.verify_message}). Behind a "
                "proxy with its own CA set SSL_CERT_FILE to the CA's file"
            )
        if isinstance(cause, socket.gaierror):
            return f"the host {host} was not found; check that this machine is online"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy for {host} failed ({capped(str(error))}). Check HTTPS_PROXY"
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return f"no connection to {host}; check that it is running and that this machine is online"
    if isinstance(error, httpx.TimeoutException):
        return f"{host} stopped sending"
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return f"the connection to {host} keeps breaking"
    return f"the request to {host} failed ({capped(str(error)) or type(error).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def disk_error(where: str, folder: object, error: OSError, missing: int = 0) -> DownloadError:
    """Why something could not be written."""
    if error.errno in _FULL or getattr(error, "winerror", None) == _WINDOWS_FULL:
        more = f" Another {size_words(missing)} are needed." if missing else ""
        return DownloadError(where, f"the disk of {folder} is full.{more} Free some space. {_KEPT}")
    if error.errno == errno.EFBIG:
        return DownloadError(
            where,
            f"{folder} takes no file that large: a FAT32 disk has a limit of 4 GiB, ulimit -f may "
            f"set another. Set HF_HOME to a folder on another disk. {_KEPT}",
        )
    return DownloadError(where, f"{folder} cannot be written: {reason(error)}")
