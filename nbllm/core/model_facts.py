"""What is known of models, for reading: a card of one, a list of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.core.kinds import place_of
from nbllm.core.rendering.cards import Column, card_html, list_html
from nbllm.core.vendors import host_and_port
from nbllm.core.words import counted, size_words

if TYPE_CHECKING:
    from nbllm.core.types import ModelInfo

__all__ = ["ModelList", "model_card", "model_facts"]

_GONE_FIRST = ("parameters", "source", "file size", "type", "context length", "runs on")
_SHORT_WORDS = {"context length": "context", "file size": "file", "memory": "memory"}


def model_facts(info: ModelInfo) -> dict[str, str]:
    """Its facts by the words for them, "" where one is not known; no address, folder or key."""
    place = place_of(info)
    return {
        "type": info.model_type,
        "runs on": info.device or (f"{place} {host_and_port(info)}".strip() if place else ""),
        "parameters": f"{info.parameters:.3g} billion" if info.parameters else "",
        "quantization": info.quantization or "",
        "context length": f"{info.context_length:,} tokens" if info.context_length else "",
        "file size": size_words(info.size_bytes) if info.size_bytes else "",
        "memory": size_words(info.memory_bytes) if info.memory_bytes else "",
        "source": info.source,
    }


def model_card(info: ModelInfo) -> str:
    """The card of one model as HTML, its own defaults among the facts."""
    values = {**info.options.set_values(), **info.load.set_values()}
    defaults = ", ".join(
        f"{name} {value}" if isinstance(value, int | float) else name
        for name, value in values.items()
    )
    file = info.path.name if info.path else ""
    companions = ", ".join(path.name for path in info.companions)
    facts = {**model_facts(info), "file": file, "companions": companions, "defaults": defaults}
    return card_html(info.name, facts.items())


class ModelList(list["ModelInfo"]):
    """A list of models that shows itself as a table."""

    def __repr__(self) -> str:
        if not self:
            return "[]"
        lines = (f" {info.name}: {_line(info)}" for info in self)
        return "\n".join([f"<{counted(len(self), 'model')}:", *lines]) + ">"

    def _repr_html_(self) -> str:
        if not self:
            return ""
        facts = [model_facts(info) for info in self]
        columns = [
            Column(name, [each[name] for each in facts], goes=_turn(name)) for name in facts[0]
        ]
        return list_html([Column("name", [info.name for info in self]), *columns])


def _turn(name: str) -> int | None:
    return _GONE_FIRST.index(name) if name in _GONE_FIRST else None


def _line(info: ModelInfo) -> str:
    facts = model_facts(info).items()
    return ", ".join(f"{_SHORT_WORDS.get(name, '')} {fact}".strip() for name, fact in facts if fact)
