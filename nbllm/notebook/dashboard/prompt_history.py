"""The prompts that were sent from the playground, to be sent again."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets

from nbllm.core.messages import Message
from nbllm.core.prompt_beginnings import beginning_of
from nbllm.notebook.dashboard.widgets import field

__all__ = ["PromptHistory"]

KEPT = 50
_LONGEST_LABEL = 80
_NONE = ("earlier prompts", "")


class PromptHistory:
    """A list to choose from, the newest first; ``on_choose`` gets the whole prompt."""

    def __init__(self, on_choose: Callable[[str], None]) -> None:
        self._on_choose = on_choose
        self.widget = field(
            ipywidgets.Dropdown(description="History", options=[_NONE]),
            "Earlier prompts, the newest first.",
        )
        self.widget.observe(self._take, "value")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts, the newest first."""
        return tuple(prompt for _, prompt in self.widget.options[1:])

    def add(self, prompt: str) -> None:
        """Put a prompt before the others; one that was there already moves."""
        others = [each for each in self.prompts if each != prompt]
        kept = [prompt, *others][:KEPT]
        self.widget.options = (_NONE, *((_label(each), each) for each in kept))

    def _take(self, change: object) -> None:
        chosen = self.widget.value
        if chosen:
            self.widget.value = ""  # so that it can be chosen once more
            self._on_choose(chosen)


def _label(prompt: str) -> str:
    line = beginning_of([Message("user", prompt)])
    return line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 1].rstrip()}…"
