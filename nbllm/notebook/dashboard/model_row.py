"""A model's row: its name, what it is and how it does, and the buttons that change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from nbllm.core.kinds import kind_of, place_of
from nbllm.core.loading.model_loads import ModelStatus
from nbllm.core.rendering.escaping import attribute_html, text_html
from nbllm.core.types import ModelInfo
from nbllm.core.words import duration_words, size_words
from nbllm.notebook.dashboard.widgets import box, button, mark, problem_html, text

__all__ = ["ModelActions", "ModelRow", "Report", "kind_words", "state_words"]

Report: TypeAlias = Callable[[str], None]
"""Takes what went wrong, from any thread; "" where nothing did."""
DEFAULT_WORDS = "default for cells"


@dataclass(frozen=True, slots=True)
class ModelActions:
    """What the buttons do, each with a model's name; they return at once, from any thread."""

    load: Callable[[str, Report], None]
    unload: Callable[[str, Report], None]
    pin: Callable[[str, Report], None]
    unpin: Callable[[str, Report], None]
    use: Callable[[str, Report], None]


class ModelRow:
    """The widgets of one model, by its name."""

    def __init__(self, name: str, actions: ModelActions) -> None:
        self._name, self._actions = name, actions
        self._status: ModelStatus | None = None
        self._info: ModelInfo | None = None
        self._problem = ""
        self._is_given_up = False
        self._is_default = False
        self._head, self._cells = text(), text()
        self._use = button(
            "Use in cells", f"Have {name} be the default model for cells", self._press_use
        )
        self._pin = button("Pin", "", self._press_pin)
        self._load = button("Load", "", self._press_load)
        self._pin.add_class("nbllm-pin")
        self._load.add_class("nbllm-load")
        buttons = box([self._use, self._pin, self._load], "nbllm-buttons")
        below = box([self._cells, buttons], "nbllm-line")
        self.widget: Any = box([self._head, below], "nbllm-row", "nbllm-model")

    def update(
        self, info: ModelInfo, status: ModelStatus | None, fit: str, *, is_default: bool
    ) -> None:
        """Show this; ``is_default`` says that it answers the cells that name no model."""
        self._info, self._status, self._is_default = info, status, is_default
        self._show_head()
        kind, state = text_html(kind_words(info)), state_words(status, fit)
        self._cells.value = (
            f'<div class="nbllm-details"><div class="nbllm-soft">{kind}</div>'
            f'<div title="{attribute_html(state)}">{text_html(state)}</div>{_bar(status)}</div>'
        )
        self._update_buttons(info)

    def report(self, problem: str) -> None:
        """Show what went wrong in the row, until something goes well."""
        self._problem = problem
        self._show_head()

    def _show_head(self) -> None:
        if self._info is None:
            return
        where = f"\n{self._info.path}" if self._info.path else ""
        badge = f'<span class="nbllm-badge">{DEFAULT_WORDS}</span>' if self._is_default else ""
        self._head.value = (
            f'<div class="nbllm-model-name">{_dot(self._status)}'
            f'<b dir="auto" title="{attribute_html(self._name + where)}">{text_html(self._name)}'
            f"</b>{badge}</div>{problem_html(self._problem)}"
        )

    def _update_buttons(self, info: ModelInfo) -> None:
        status, name = self._status, self._name
        is_loaded = status is not None and status.state == "loaded"
        is_pinned = status is not None and status.pinned
        words, tooltip = _LOAD_WORDS.get(status.state if status else "", _LOAD)
        self._load.description, self._load.tooltip = words, tooltip.format(name=name)
        self._pin.description = "Unpin" if is_pinned else "Pin"
        self._pin.tooltip = (
            f"Let {name} be evicted when its memory is needed"
            if is_pinned
            else f"Keep {name} loaded: it is never evicted for another model"
        )
        mark(self._pin, "nbllm-on", on=is_pinned)
        mark(self._pin, "nbllm-hidden", on=status is None or not kind_of(info).takes_memory)
        mark(self._use, "nbllm-hidden", on=not is_loaded or self._is_default)

    def _press_load(self) -> None:
        self.report("")
        self._is_given_up = self._status is not None and self._status.state != "loaded"
        if self._status is None:
            self._actions.load(self._name, self._report_load)
        else:
            self._actions.unload(self._name, self.report)

    def _report_load(self, problem: str) -> None:
        if not self._is_given_up:  # the reader knows who ended it
            self.report(problem)

    def _press_pin(self) -> None:
        is_pinned = self._status is not None and self._status.pinned
        (self._actions.unpin if is_pinned else self._actions.pin)(self._name, self.report)

    def _press_use(self) -> None:
        self._actions.use(self._name, self.report)


_LOAD = ("Load", "Load {name} with the context length and device above")
_LOAD_WORDS = {
    "loaded": ("Unload", "Unload {name} and free its memory"),
    "crashed": ("Remove", "Remove {name}, whose process has ended"),
    "loading": ("Cancel", "Stop loading {name}"),
    "waiting": ("Cancel", "Stop waiting for memory for {name}"),
}


def _dot(status: ModelStatus | None) -> str:
    is_on = status is not None and status.state == "loaded"
    return f'<i class="nbllm-dot{" on" if is_on else ""}"></i>'


def kind_words(info: ModelInfo) -> str:
    """What a model is: its architecture or vendor, its size."""
    parameters = info.parameters
    return " · ".join(
        [
            info.model_type,
            *([f"{parameters:.3g} B"] if parameters else []),
            *([info.quantization] if info.quantization else []),
            *([info.router.strategy] if info.router else []),
            *([size_words(info.size_bytes)] if info.size_bytes else []),
        ]
    )


def state_words(status: ModelStatus | None, fit: str) -> str:
    """Where a model is and what it does; ``fit`` of one that is not loaded."""
    if status is None:
        return fit
    info = status.info
    if status.state != "loaded":
        words = {"waiting": "waiting for memory", "loading": f"loading {status.fraction:.0%}"}
        return words.get(status.state, "crashed")
    if status.members:
        return f"{', '.join(map(str, status.members))} · {_use_words(status)}"
    memory = f" · {size_words(info.memory_bytes)}" if info.memory_bytes else ""
    return f"on {info.device or f'the {place_of(info)}'}{memory} · {_use_words(status)}"


def _use_words(status: ModelStatus) -> str:
    if status.requests:
        return f"{status.requests} running"
    idle = status.idle_seconds or 0.0
    return "idle" if idle < 60 else f"idle for {duration_words(idle)}"


def _bar(status: ModelStatus | None) -> str:
    if status is None or status.state != "loading":
        return ""
    return f'<div class="nbllm-bar"><i style="width:{status.fraction:.0%}"></i></div>'
