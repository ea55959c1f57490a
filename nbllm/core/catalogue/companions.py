"""Files that serve another model: projectors for images, and small models that draft for it.

What a file is, its header says. Whose it is, hardly any header says: the folder does, and the
names in it. A file that could be of several models, or of none, is listed with no model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbllm.core.catalogue.source import StoredFile
from nbllm.core.types import ModelInfo

__all__ = ["with_companions"]

_NAMES = r"mmproj|draft|drafter|eagle\d?|dflash|mtp"
_NAMED = re.compile(rf"(?:^|[-._/])(?:{_NAMES})(?=[-._/]|$)", re.IGNORECASE)
_SAYS_NOTHING = re.compile(
    rf"-(?:{_NAMES}|ggml|gguf|model|\d{{5}}-of-\d{{5}}|(?:UD-)?I?Q\d[A-Z0-9]*(?:-(?:[KSML01]|X+[SL]|NL))*"
    r"|TQ\d-\d|MXFP4(?:-MOE)?|NVFP4|BF16|F16|F32)(?=-|$)",
    re.IGNORECASE,
)
_KINDS = ("mmproj", "draft")
_VOCABULARIES_DIFFER = 128
"""By so many tokens the vocabularies of a model and its draft may differ in llama.cpp."""


@dataclass(frozen=True, slots=True)
class _File:
    stored: StoredFile
    info: ModelInfo

    @property
    def folder(self) -> Path:
        return self.stored.path.parent


def with_companions(
    found: Iterable[tuple[StoredFile, ModelInfo]],
) -> Iterator[tuple[StoredFile, ModelInfo]]:
    """The models of one place, each with its companions, which are left out themselves."""
    files = [_File(*each) for each in found]
    if not any(_may_serve(file) for file in files):
        yield from ((file.stored, _with(file, [])) for file in files)
        return
    models = [file for file in files if file.info.model_type not in _KINDS]
    below: dict[Path, list[_File]] = defaultdict(list)
    for model in models:
        for folder in (model.folder, *model.folder.parents[:2]):
            below[folder].append(model)
    served: dict[Path, list[Path]] = defaultdict(list)
    companions = set()
    for file in filter(_may_serve, files):
        for model in _served_by(file, below[file.folder]):
            served[model.stored.path].append(file.stored.path)
            companions.add(file.stored.path)
    for model in models:
        if model.stored.path not in companions:
            yield model.stored, _with(model, served[model.stored.path])


def _with(model: _File, beside: Sequence[Path]) -> ModelInfo:
    files = tuple(dict.fromkeys([*model.stored.companions, *beside]))
    return replace(model.info, companions=files) if files else model.info


def _may_serve(file: _File) -> bool:
    """A projector, whatever its name; a model that drafts by its header or by its name."""
    return file.info.model_type in _KINDS or bool(_NAMED.search(file.stored.path.stem))


def _served_by(companion: _File, near: Sequence[_File]) -> list[_File]:
    """The models that it belongs to: those that its name begins with, else those beside it.

    A draft serves all beside it that have its tokenizer, a projector those of one name only.
    """
    is_draft = companion.info.model_type != "mmproj"
    others = [each for each in near if not _may_serve(each)]
    if is_draft:
        others = [each for each in others if _drafts_for(companion.info, each.info)]
    core = _core(companion)
    named = [each for each in others if core and _begins(_core(each), core)]
    beside = [each for each in others if each.folder == companion.folder] or others
    is_one = len({_core(each) for each in beside}) == 1
    return named or (beside if is_draft or is_one else [])


def _begins(name: str, core: str) -> bool:
    return f"{name}-".startswith(f"{core}-") or f"{core}-".startswith(f"{name}-")


def _core(file: _File) -> str:
    """What a name says of the model: without its type, its part and what kind of file it is."""
    stem = re.sub(r"[\s._-]+", "-", f"-{file.stored.path.stem}")
    return _SAYS_NOTHING.sub("", stem).strip("-").casefold()


def _drafts_for(draft: ModelInfo, model: ModelInfo) -> bool:
    """Whether llama.cpp would let it, and it pays: the same tokenizer, and twice the size."""
    if draft.model_type == "draft":
        return True
    (kind, size), (other_kind, other_size) = _tokenizer(draft), _tokenizer(model)
    is_larger = (model.parameters or 0) >= 2 * (draft.parameters or 0)
    return is_larger and kind == other_kind and abs(size - other_size) <= _VOCABULARIES_DIFFER


def _tokenizer(info: ModelInfo) -> tuple[str, int]:
    kind, _, size = (info.tokenizer or "").rpartition("/")
    return kind, int(size) if size.isdecimal() else 0
