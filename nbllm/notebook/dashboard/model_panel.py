"""The models: what fits, what is loaded, and how another one is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nbllm.core.errors import InvalidOptionError
from nbllm.core.loading.loads import ModelStatus
from nbllm.core.rendering.escaping import text_html
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.notebook.dashboard.load_form import LoadForm
from nbllm.notebook.dashboard.model_row import (
    ModelActions,
    ModelRow,
    Report,
    kind_words,
    state_words,
)
from nbllm.notebook.dashboard.sections import Section
from nbllm.notebook.dashboard.widgets import box, card, set_children, text

__all__ = ["ModelPanel"]

SHOWN_MODELS = 12
_NO_MODELS = (
    "No model was found. Put a .gguf file into the notebook's folder, or name a file or a cloud "
    "model below."
)


class ModelPanel:
    """A row for each model: those that are loaded or on their way first.

    ``load`` is called with a name and how to load it; ``on_filter`` when other models are to be
    shown.
    """

    def __init__(
        self,
        actions: ModelActions,
        load: Callable[[str, LoadOptions, Report], None],
        on_filter: Callable[[], None],
    ) -> None:
        self._load = load
        self._actions = replace(actions, load=self._load_as_chosen)
        self._rows: dict[str, ModelRow] = {}
        self._saved: tuple[tuple[str, ...], ...] = ()
        self._note = text()
        self._list = box([], "nbllm-models")
        self.form = LoadForm(on_filter, self._load_as_chosen)
        self.widget = card("Models", self.form.top, self._list, self._note, self.form.bottom)

    def shown(
        self, statuses: Sequence[ModelStatus], available: Sequence[ModelInfo]
    ) -> list[ModelInfo]:
        """The models that the filter lets through, as many as are shown."""
        return self._wanted(statuses, available)[: SHOWN_MODELS + len(statuses)]

    def update(
        self,
        statuses: Sequence[ModelStatus],
        available: Sequence[ModelInfo],
        fits: Mapping[str, str],
        default: str | None,
    ) -> None:
        """Show these; ``fits`` says in words for each available name whether it fits.

        ``default`` is the name of the model that answers cells which name none.
        """
        by_name = {status.info.name: status for status in statuses}
        wanted = self._wanted(statuses, available)
        infos = self.shown(statuses, available)
        known = self._rows
        self._rows = {
            info.name: known.get(info.name) or ModelRow(info.name, self._actions) for info in infos
        }
        for info in infos:
            status, fit = by_name.get(info.name), fits.get(info.name, "")
            is_default = info.name == default
            self._rows[info.name].update(info, status, fit, is_default=is_default)
        self._saved = tuple(
            (info.name, kind_words(info), state_words(by_name.get(info.name), ""))
            for info in (status.info for status in statuses)
        )
        self._note.value = self._note_html(len(infos), len(wanted) - len(infos))
        set_children(self._list, [row.widget for row in self._rows.values()])

    @property
    def section(self) -> Section:
        """The models that are loaded or on their way."""
        return Section("Models", self._saved or (("No model is loaded.",),))

    def _wanted(
        self, statuses: Sequence[ModelStatus], available: Sequence[ModelInfo]
    ) -> list[ModelInfo]:
        loaded = [status.info for status in statuses]
        names = {info.name for info in loaded}
        others = [info for info in available if info.name not in names]
        return [info for info in (*loaded, *others) if self.form.wants(info)]

    def _note_html(self, shown: int, more: int) -> str:
        words = f"{more:,} more: filter them, or list all with %llm_models." if more else ""
        if not shown:
            wanted = " ".join(self.form.filter.value.split())
            words = f"No model matches “{wanted}”." if wanted else _NO_MODELS
        return f'<div class="nbllm-soft">{text_html(words)}</div>' if words else ""

    def _load_as_chosen(self, name: str, report: Report) -> None:
        try:
            options = self.form.options()
        except InvalidOptionError as error:
            report(str(error))
        else:
            self._load(name, options, report)
