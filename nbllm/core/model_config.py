"""Models in JSON: configs are read into ``ModelInfo`` and written from it.

A config holds one object or a list of them. Every problem is a ``ConfigError`` that names the
file, the entry and the key. A config never holds an API key, only the name of the environment
variable that does; one that seems to hold a key is refused, and the key is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nbllm.core.configs.entry import entry_of, parse_entry
from nbllm.core.configs.file import decode, encode, read_text, replace_text
from nbllm.core.errors import ConfigError
from nbllm.core.paths import absolute_path
from nbllm.core.types import ModelInfo

__all__ = ["load_config", "parse_entry", "save_config"]


def load_config(path: str | Path) -> list[ModelInfo]:
    """The models of the JSON config at ``path``; relative paths in it start at its folder.

    Raises ``ConfigError``.
    """
    file = _absolute(path)
    return _models(decode(read_text(file), file), file)


def save_config(path: str | Path, infos: Iterable[ModelInfo]) -> None:
    """Write the models to ``path``, all or nothing; ``load_config`` gives them back equal.

    Paths of models below the config's folder are written relative to it, so that both can move
    together. Raises ``ConfigError`` for what cannot be written or would not be read again,
    before the file is touched.
    """
    file = _absolute(path)
    try:
        entries = [entry_of(info, file.parent) for info in infos]
    except ValueError as error:
        raise ConfigError(f"a model's path cannot be written: {error}", file=file) from None
    text = encode(entries, file)
    _models(decode(text, file), file)
    replace_text(file, text + "\n")


def _absolute(path: str | Path) -> Path:
    try:
        return absolute_path(path)
    except ValueError as error:
        raise ConfigError(str(error), file=Path(path)) from None


def _models(content: object, file: Path) -> list[ModelInfo]:
    if not isinstance(content, list):
        return [parse_entry(content, file=file)]
    infos = [parse_entry(entry, file=file, index=index) for index, entry in enumerate(content)]
    first_with: dict[str, int] = {}
    for index, info in enumerate(infos):
        first = first_with.setdefault(info.name, index)
        if first != index:
            problem = f"entries {first} and {index} have the same name; change one of them"
            raise ConfigError(problem, file=file, entry=info.name, key="name")
    return infos
