"""The JSON of a config: its text in and out, and the values that its keys may have.

No reason shows the value: a misplaced value may be a secret.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nbllm.core import paths, saved_files
from nbllm.core.budgets.budget import Budget, budgets_from
from nbllm.core.errors import ConfigError
from nbllm.core.paths import expanded

__all__ = [
    "MODEL_KEYS",
    "JsonObject",
    "decode",
    "encode",
    "kind_of",
    "read_text",
    "replace_text",
]

_MAX_BYTES = 8 * 2**20


class JsonObject(dict[str, Any]):
    """An object of a JSON text; ``repeated`` names a key that stands in it more than once."""

    repeated: str | None = None


def read_text(file: Path) -> str:
    """The text of a config. Raises ``ConfigError``."""
    try:
        return paths.read_text(file, _MAX_BYTES)
    except paths.TooLargeError as error:
        problem = f"{error}, so it is not a config; load a model's file with load_model"
    except (OSError, ValueError) as error:
        problem = f"the file cannot be read: {paths.reason(error)}"
    raise ConfigError(problem, file=file)


def decode(text: str, file: Path) -> object:
    """The JSON value in ``text``. Raises ``ConfigError`` with line and column.

    It is raised outside the handlers, for a JSON error behind it would hold the whole text.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        problem = f"invalid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        problem = "the JSON is nested too deeply"
    except ValueError:
        problem = "a number has too many digits"
    raise ConfigError(problem, file=file)


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    result = JsonObject(pairs)
    if len(result) < len(pairs):
        result.repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return result


def encode(value: object, file: Path) -> str:
    """``value`` as readable JSON. Raises ``ConfigError`` for what JSON has no form for."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as a path that is not UTF-8 has
        return json.dumps(value, indent=2, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"a value cannot be written as JSON: {error}"
    else:
        return text
    raise ConfigError(problem, file=file)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def replace_text(file: Path, text: str) -> None:
    """Put ``text`` in the place of the file's, all or nothing. Raises ``ConfigError``."""
    try:
        saved_files.write(file, text)
    except UnicodeError:
        problem = "it contains a lone surrogate"
    except (OSError, ValueError) as error:
        problem = paths.reason(error)
    else:
        return
    raise ConfigError(f"the file cannot be written: {problem}", file=file)


def kind_of(value: object) -> str:
    """What JSON calls the type of a value."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    for kind, name in names.items():
        if isinstance(value, kind):
            return name
    return "null" if value is None else "a number"


def _expect(value: object, kind: type | tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"must be {wanted} (got {kind_of(value)})")


def _any_text(value: Any) -> str:
    _expect(value, str, "a string")
    return str(value)


def _filled(value: Any) -> str:
    if not _any_text(value).strip():
        raise ValueError("must not be empty")
    return str(value)


def _text(value: Any) -> str:
    text = _filled(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate") from None
    return text


def _flag(value: Any) -> bool:
    _expect(value, bool, "true or false")
    return bool(value)


def _tokens(value: Any) -> int:
    _expect(value, int, "an integer")
    if value < 1:
        raise ValueError("must be at least 1")
    return int(value)


def _billions(value: Any) -> float:
    _expect(value, (int, float), "a number")
    if not 0 < value < 1e6:
        raise ValueError("must be the number of parameters in billions")
    return float(value)


def _path(value: Any) -> Path:
    text = _filled(value)
    if "\0" in text:
        raise ValueError("must not contain a null character")
    return expanded(text)


def _variable(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII) or re.fullmatch(r"[0-9a-fA-F]{24,}", text):
        raise ValueError("must be the name of an environment variable, such as OPENAI_API_KEY")
    return text


def _address(value: Any) -> str:
    text = _text(value)
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address that begins with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name, which could be mistaken for the host")
    return text


def _mapping(value: Any) -> Mapping[str, Any]:
    _expect(value, dict, "an object")
    return dict(value)


def _budgets(value: Any) -> tuple[Budget, ...]:
    """One object, or a list of them. Raises ``InvalidOptionError``, which names the key in it."""
    if not isinstance(value, dict):
        _expect(value, list, "a list")
    return budgets_from(value)


MODEL_KEYS: Mapping[str, Callable[[Any], Any]] = {
    "name": _text,
    "model_type": _text,
    "local": _flag,
    "path": _path,
    "context_length": _tokens,
    "quantization": _text,
    "parameters": _billions,
    "api_key_env": _variable,
    "base_url": _address,
    "model": _text,
    "api": _text,
    "options": _mapping,
    "load": _mapping,
    "budgets": _budgets,
}
"""The keys of a model, each with its reader."""
