"""What the hub's own library knows of this person and this machine; imported when needed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from nbllm.core.errors import DownloadError, MissingDependencyError
from nbllm.core.texts import capped, shown

__all__ = ["HubSettings", "hub_settings"]

_TRUE = {"1", "ON", "YES", "TRUE"}
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The address of the hub, the person's token (None: none), and whether links may be made."""

    endpoint: str
    token: str | None
    links: bool


def hub_settings(where: str) -> HubSettings:
    """As the environment says now, which may have changed since the library was imported.

    Raises ``DownloadError``, and ``MissingDependencyError`` where the library is not installed.
    """
    if any(os.environ.get(name, "").strip().upper() in _TRUE for name in _OFFLINE):
        raise DownloadError(
            where, "downloads are turned off by HF_HUB_OFFLINE. Unset it to download"
        )
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        raise MissingDependencyError(
            "huggingface_hub", purpose="Downloading from Hugging Face", extra="hub"
        ) from error
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or constants.ENDPOINT
    return HubSettings(
        endpoint=_checked(where, endpoint),
        token=_token(where, get_token) if _may_use_token() else None,
        links=not constants.HF_HUB_DISABLE_SYMLINKS,
    )


def _may_use_token() -> bool:
    told = os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "")
    return told.strip().upper() not in _TRUE


def _token(where: str, get_token: object) -> str | None:
    assert callable(get_token)  # noqa: S101
    try:
        token = get_token()
    except Exception as error:  # noqa: BLE001 - it asks servers and vaults, and raises what they do
        raise DownloadError(where, f"no token can be had: {capped(str(error))}") from None
    return token if isinstance(token, str) and re.fullmatch(r"[\x21-\x7e]+", token) else None


def _checked(where: str, endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.username is not None:
        raise DownloadError(where, f"HF_ENDPOINT is not a valid address: {shown(endpoint)}")
    return endpoint
