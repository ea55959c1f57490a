"""The places of other programs where models are found, in the order in which they get a name."""

from __future__ import annotations

from nbllm.core.catalogue.downloads import DOWNLOADS
from nbllm.core.catalogue.hugging_face import HuggingFaceCache
from nbllm.core.catalogue.ollama import OllamaStore
from nbllm.core.catalogue.programs import PROGRAMS
from nbllm.core.catalogue.source import Store

__all__ = ["STORES", "store_called"]

STORES: tuple[Store, ...] = (
    PROGRAMS[0],
    DOWNLOADS,
    HuggingFaceCache(),
    *PROGRAMS[1:],
    OllamaStore(),
)


def store_called(word: str) -> Store | None:
    """The place with this key or title, however it is written."""
    folded = _folded(word)
    return next((s for s in STORES if folded in (_folded(s.key), _folded(s.title))), None)


def _folded(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())
