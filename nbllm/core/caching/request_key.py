"""The identity of a request: equal for requests that would be sent alike, and for no others.

Everything that reaches the model counts: which model at which address, the messages with their
attachments by content, and every option, unknown ones in ``extra`` too. Left out is what changes
how an answer comes and not what it is: timeouts, retries, priority, caching and prompt lookup.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from nbllm.core.forks import ChildSafeLock
from nbllm.core.messages import ContentPart
from nbllm.core.option_table import OptionSet, options_of
from nbllm.core.options import GenerationOptions
from nbllm.core.paths import file_fingerprint
from nbllm.core.types import GenerationRequest, ModelInfo

__all__ = ["is_deterministic", "is_quick", "model_part", "request_key"]

_VERSION = 1
_QUICK_BYTES = 128 * 2**10
_LARGE_BYTES = 64 * 2**10


def is_deterministic(options: GenerationOptions) -> bool:
    """Whether the same request is meant to have the same answer: at temperature 0, or by a seed."""
    return options.temperature == 0 or options.seed is not None


def request_key(
    request: GenerationRequest, sample: int = 0, *, model: Mapping[str, Any] | None = None
) -> str:
    """64 hexadecimal digits; ``sample`` numbers answers to one request that are to differ.

    ``model`` is the ``model_part`` where another machine has the model's file.
    """
    parts = {
        "version": _VERSION,
        "model": model_part(request.model) if model is None else model,
        "messages": request.messages,
        "suffix": request.suffix,
        "options": _affecting(request.options, unset=False),
        "sample": sample,
        **({"questions": request.questions} if request.questions else {}),
    }
    text = json.dumps(_canonical(parts), sort_keys=True, ensure_ascii=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_quick(request: GenerationRequest) -> bool:
    """Whether its key takes well under a millisecond: there is no file, and not much to hash."""
    size = 0
    for message in request.messages:
        content = message.content
        parts = [content] if isinstance(content, str) else _values(content)
        size += sum(len(part) for part in parts if not _DIGESTS.knows(part))
    return request.model.path is None and size <= _QUICK_BYTES


def _values(parts: Sequence[ContentPart]) -> list[str | bytes]:
    """The texts and attachments in the parts of a message."""
    values = (getattr(part, name) for part in parts for name in part.__slots__)
    return [value for value in values if isinstance(value, str | bytes)]


class _Digests:
    """SHA-256 of the last large attachments: a conversation's come again with each turn.

    They are known by identity, so each is held on to, up to ``most_bytes`` together.
    """

    def __init__(self, most_bytes: int = 32 * 2**20) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[int, tuple[bytes, str]] = OrderedDict()
        self._lock = ChildSafeLock()

    def knows(self, data: str | bytes) -> bool:
        """Whether it need not be read again."""
        return id(data) in self._kept

    def of(self, data: bytes) -> str:
        """In hexadecimal digits."""
        if len(data) < _LARGE_BYTES:
            return hashlib.sha256(data).hexdigest()
        with self._lock:
            kept = self._kept.get(id(data))
        digest = hashlib.sha256(data).hexdigest() if kept is None else kept[1]
        with self._lock:
            self._kept[id(data)] = data, digest
            self._kept.move_to_end(id(data))
            while sum(len(each) for each, _ in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return digest


_DIGESTS = _Digests()


def model_part(info: ModelInfo) -> dict[str, Any]:
    """What tells a model from others; reads of its file."""
    if info.path is None:
        return {
            "type": info.model_type,
            "model": info.model or info.name,
            "api": info.api,
            "address": _without_user(info.base_url),
        }
    return {
        "type": info.model_type,
        "file": file_fingerprint(info.path),
        "load": _affecting(info.load, unset=True),
        "adapters": [
            (file_fingerprint(Path(path)), scale) for path, scale in info.load.adapters or ()
        ],
        "engine": _engine_version(),
    }


def _affecting(options: OptionSet, *, unset: bool) -> dict[str, Any]:
    """The options that answers differ by, with those that are ``unset`` or without."""
    return {
        name: value
        for name, declared in options_of(type(options)).items()
        if declared.affects_answer and ((value := getattr(options, name)) is not None or unset)
    }


@cache
def _engine_version() -> str | None:
    """That of the installed llama.cpp: another one may answer otherwise."""
    try:
        return metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        return None


def _without_user(address: str | None) -> str | None:
    if address is None:
        return None
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _canonical(value: Any) -> Any:
    """As JSON, in which values that differ differ: types are named where JSON would lose them."""
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, bytes):
        return {"bytes": _DIGESTS.of(value), "size": len(value)}
    if isinstance(value, enum.Enum):
        return _canonical(value.value)
    if isinstance(value, Mapping):
        return {"map": sorted([str(key), _canonical(each)] for key, each in value.items())}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        content = {f.name: _canonical(getattr(value, f.name)) for f in fields(value)}
        return {type(value).__name__: content}
    return {type(value).__name__: str(value)}
