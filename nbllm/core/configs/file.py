"""A config's file: its text, as JSON values, in and out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbllm.core import paths, saved_files
from nbllm.core.errors import ConfigError

__all__ = ["JsonObject", "decode", "encode", "read_text", "replace_text"]

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
