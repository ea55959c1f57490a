"""Models in several files, as ``llama-gguf-split`` writes and names them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import SplitInfo
from nbllm.local.gguf.header import Header, read_header
from nbllm.local.gguf.header_keys import Keys

__all__ = ["model_files", "model_stem", "other_parts", "split_of"]

_NAME = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})")


def model_stem(file: Path) -> str:
    """The name of a model's file without its ending, and without the number of its part."""
    name = _NAME.fullmatch(file.stem)
    return name["stem"] if name else file.stem


def split_of(keys: Keys) -> SplitInfo | None:
    """Which part of a split model has these keys; None for a model in one file."""
    index, count = keys.whole("split.no") or 0, keys.whole("split.count") or 0
    return SplitInfo(index, count) if count > 1 else None


def other_parts(file: Path, split: SplitInfo | None) -> list[Header]:
    """The headers of the parts after the first, found by llama.cpp's way of naming them.

    Raises ``ModelFileError`` where one is missing, or is another one than its name says.
    """
    if split is None:
        return []
    name = _NAME.fullmatch(file.stem)
    if name is None or int(name["part"]) != split.index + 1 or int(name["parts"]) != split.count:
        raise ModelFileError(
            str(file),
            f"is part {split.index + 1} of {split.count} of a split model and must be named "
            + _part_name("…", split.index, split.count),
        )
    others = [
        file.with_name(_part_name(name["stem"], index, split.count)) for index in range(split.count)
    ]
    if split.index != 0:
        problem = f"is part {split.index + 1} of a split model; open {others[0].name}"
        raise ModelFileError(str(file), problem)
    return [_part(file, others[index], index) for index in range(1, split.count)]


def model_files(path: Path) -> list[Path]:
    """The files of the model whose first part is at ``path``: it, unless the model is split."""
    name = _NAME.fullmatch(path.stem)
    if name is None:
        return [path]
    count = int(name["parts"])
    others = [path.with_name(_part_name(name["stem"], index, count)) for index in range(count)]
    return [path, *(other for other in others if other != path and other.exists())]


def _part_name(stem: str, index: int, count: int) -> str:
    """As ``llama-gguf-split`` names its files."""
    return f"{stem}-{index + 1:05}-of-{count:05}.gguf"


def _part(first: Path, other: Path, index: int) -> Header:
    if not os.path.lexists(other):
        raise ModelFileError(str(first), f"is split, and its part {other.name} is missing")
    header = read_header(other)
    if header.metadata.get("split.no") != index:
        raise ModelFileError(str(other), f"is not part {index + 1} of the model, as its name says")
    return header
