"""The form of every answer to a name that leads nowhere: what is near, and what gets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from nbllm.core.errors import ConfigError
from nbllm.core.naming.providers import vendor_model
from nbllm.core.openers import known_vendor_models
from nbllm.core.suggest import nearest
from nbllm.core.types import ModelInfo

__all__ = ["Answer", "Known", "Shape", "Way"]

_MOST_HERE = 5


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the model: a sentence without its end, and the lines to run in a cell."""

    lead: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n    ".join([f"{self.lead}:", *self.lines])


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of a name: ``what`` it is, if that is known, and the ways to a model."""

    what: str = ""
    ways: tuple[Way, ...] = ()
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """Every name that can be typed now: ``infos`` that are listed, ``loaded`` names, vendors'."""

    infos: tuple[ModelInfo, ...] = ()
    loaded: tuple[str, ...] = ()

    @cached_property
    def vendor_names(self) -> tuple[str, ...]:
        """The vendors' models whose names nbllm knows."""
        try:
            return tuple(known_vendor_models())
        except ConfigError:  # a table of prices of the reader's own; who asks for prices is told
            return ()

    @property
    def names(self) -> list[str]:
        """What can be loaded at once, what is loaded first."""
        return list(dict.fromkeys([*self.loaded, *(each.name for each in self.infos)]))

    def of_vendor(self, vendor: str) -> list[str]:
        """The known models of one vendor."""
        entries = ((name, vendor_model(name)) for name in self.vendor_names)
        return [name for name, entry in entries if entry and entry.model_type == vendor]

    def near(self, name: str) -> tuple[str, ...]:
        """The closest of all names, best first."""
        return nearest(name, [*self.names, *self.vendor_names])

    @property
    def here(self) -> str:
        """A sentence on what can be loaded at once, "" where nothing can."""
        names = self.names
        if not names:
            return "%llm_models lists the available models; the path of a model file ends in .gguf."
        more = f" and {len(names) - _MOST_HERE:,} more" if len(names) > _MOST_HERE else ""
        return f"Available: {', '.join(names[:_MOST_HERE])}{more} (%llm_models lists all)."


Shape = Callable[[str, Known], Answer | None]
"""Recognizes one kind of name and answers it; None for all others."""
