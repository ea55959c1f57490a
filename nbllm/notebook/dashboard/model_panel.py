"""The models: what fits, what is loaded, and the buttons that change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbllm.core.loading.loads import ModelStatus
from nbllm.core.rendering.escaping import attribute_html, text_html
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import place_of
from nbllm.core.words import duration_words, size_words
from nbllm.notebook.dashboard.widgets import box, button, card, set_children, text

__all__ = ["SHOWN_MODELS", "ModelActions", "ModelPanel"]

SHOWN_MODELS = 12
_EMPTY = (
    '<span class="nbllm-soft">No model was found. Put a .gguf file beside the notebook, or '
    "load a cloud model by its name.</span>"
)


@dataclass(frozen=True, slots=True)
class ModelActions:
    """What the buttons do, each with a model's name; they return at once, from any thread."""

    load: Callable[[str], None]
    unload: Callable[[str], None]
    pin: Callable[[str], None]
    unpin: Callable[[str], None]


class ModelPanel:
    """A row for each model: those that are loaded or on their way first."""

    def __init__(self, actions: ModelActions) -> None:
        self._actions = actions
        self._rows: dict[str, _Row] = {}
        self._note = text()
        self._list = box([self._note])
        self.widget = card("Models", self._list)

    def update(
        self,
        statuses: Sequence[ModelStatus],
        available: Sequence[ModelInfo],
        fits: Mapping[str, str],
    ) -> None:
        """Show these; ``fits`` says in words for each available name whether it fits."""
        by_name = {status.info.name: status for status in statuses}
        others = [info for info in available if info.name not in by_name]
        infos = [*(status.info for status in statuses), *others][:SHOWN_MODELS]
        known = self._rows
        self._rows = {
            info.name: known.get(info.name) or _Row(info.name, self._actions) for info in infos
        }
        for info in infos:
            self._rows[info.name].update(info, by_name.get(info.name), fits.get(info.name, ""))
        more = len(by_name) + len(others) - len(infos)
        told = f'<span class="nbllm-soft">{more:,} more: %llm_models lists them all.</span>'
        self._note.value = _EMPTY if not infos else told if more else ""
        set_children(self._list, [*(row.widget for row in self._rows.values()), self._note])


class _Row:
    def __init__(self, name: str, actions: ModelActions) -> None:
        self._name, self._actions = name, actions
        self._status: ModelStatus | None = None
        self._cells = text()
        self._pin = button("Pin", "Keep it loaded, whoever else needs the memory", self._press_pin)
        self._load = button("Load", "Load this model", self._press_load)
        self._pin.add_class("nbllm-pin")
        self._load.add_class("nbllm-load")
        self.widget: Any = box([self._cells, self._pin, self._load], "nbllm-row")

    def update(self, info: ModelInfo, status: ModelStatus | None, fit: str) -> None:
        self._status = status
        state, kind = _state(status, fit), " · ".join(_kind(info))
        name, title = text_html(info.name), attribute_html(info.name)
        self._cells.value = (
            f'<div class="nbllm-cells"><div title="{title}"><b>{_dot(status)}{name}</b></div>'
            f'<div title="{attribute_html(state)}">{text_html(state)}</div>'
            f'<div class="nbllm-soft">{text_html(kind)}</div>'
            f'<div class="nbllm-soft">{_second(status)}</div></div>'
        )
        self._load.description = _LOAD_WORDS.get(status.state if status else "", "Load")
        self._pin.description = "Unpin" if status and status.pinned else "Pin"
        (self._pin.add_class if status and status.pinned else self._pin.remove_class)("nbllm-on")
        no_pin = status is None or not info.local
        (self._pin.add_class if no_pin else self._pin.remove_class)("nbllm-void")

    def _press_load(self) -> None:
        (self._actions.unload if self._status else self._actions.load)(self._name)

    def _press_pin(self) -> None:
        is_pinned = self._status is not None and self._status.pinned
        (self._actions.unpin if is_pinned else self._actions.pin)(self._name)


_LOAD_WORDS = {"loaded": "Unload", "crashed": "Remove", "loading": "Cancel", "waiting": "Cancel"}


def _dot(status: ModelStatus | None) -> str:
    is_on = status is not None and status.state == "loaded"
    return f'<i class="nbllm-dot{" on" if is_on else ""}"></i>'


def _kind(info: ModelInfo) -> list[str]:
    parameters = info.parameters
    return [
        info.model_type,
        *([f"{parameters:.3g} B"] if parameters else []),
        *([info.quantization] if info.quantization else []),
        *([size_words(info.size_bytes)] if info.size_bytes else []),
    ]


def _state(status: ModelStatus | None, fit: str) -> str:
    if status is None:
        return fit
    info = status.info
    if status.state != "loaded":
        words = {"waiting": "waits for memory", "loading": f"loading {status.fraction:.0%}"}
        return words.get(status.state, "crashed")
    memory = f" · {size_words(info.memory_bytes)}" if info.memory_bytes else ""
    return f"on {info.device or f'the {place_of(info)}'}{memory}"


def _second(status: ModelStatus | None) -> str:
    if status is None:
        return ""
    if status.state == "loading":
        return f'<div class="nbllm-bar"><i style="width:{status.fraction:.0%}"></i></div>'
    if status.requests:
        return f"{status.requests} running"
    idle = status.idle_seconds or 0.0
    return "idle" if idle < 60 else f"idle for {duration_words(idle)}"
