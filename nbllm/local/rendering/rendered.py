"""What the process of a chat template answers, and its limits: for both ends.

It needs no Jinja, whose import each worker would wait for.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MEMORY_BYTES", "WALL_SECONDS", "Rendered"]

WALL_SECONDS = 30.0
"""A request that takes longer ends the process, even where nobody is left to end it."""
MEMORY_BYTES = 512 * 2**20
"""What a template may take besides what the process has before its first request."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt. ``guard`` is in the marks that are not the template's (see ``Marks``), "" if none.

    ``shows_tools`` says that the template wrote the tools, in its own way. ``begun`` are the words
    of the answer that stand at the prompt's end.
    """

    text: str
    guard: str = ""
    shows_tools: bool = False
    begun: str = ""
