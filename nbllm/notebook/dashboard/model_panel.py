"""The models: what fits, what is loaded, and how another one is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import ipywidgets

from nbllm.core.errors import InvalidOptionError
from nbllm.core.hardware.resources import Resources
from nbllm.core.kinds import place_of
from nbllm.core.loading.model_loads import ModelStatus
from nbllm.core.rendering.escaping import text_html
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.notebook.dashboard.model_row import (
    ModelActions,
    ModelRow,
    Report,
    kind_words,
    state_words,
)
from nbllm.notebook.dashboard.saved_view import Section
from nbllm.notebook.dashboard.widgets import (
    Choice,
    box,
    button,
    card,
    field,
    mark,
    on_submit,
    problem_html,
    set_children,
    text,
)

__all__ = ["LoadForm", "ModelPanel"]

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


_DEFAULT = ("default", "")
_QUOTES = "\"'"


class LoadForm:
    """The fields. ``on_filter`` is called when the filter changes, ``on_load`` with what is named.

    ``on_load`` gets what takes the problem too, "" where there was none.
    """

    def __init__(
        self, on_filter: Callable[[], None], on_load: Callable[[str, Callable[[str], None]], None]
    ) -> None:
        self._on_load = on_load
        self.filter = field(
            ipywidgets.Text(description="Filter", placeholder="name, type or quantization"),
            "Show only models that match all of these words.",
        )
        self.filter.observe(lambda _: on_filter(), "value")
        self.context = field(
            ipywidgets.Text(description="Context length", placeholder="default"),
            "In tokens, for the models that are loaded from here. Empty: as much as suits the "
            "memory.",
        )
        self.context.observe(lambda _: self._check(), "value")
        self.device = field(
            Choice("Device", options=[_DEFAULT, ("CPU", "CPU")]),
            "Device for the models loaded here.",
        )
        self.name = field(
            ipywidgets.Text(
                description="Load another model",
                placeholder="a .gguf file, a name or an address",
            ),
            "Whatever %llm_load takes: the path of a file, the name of a local or cloud model.",
            "nbllm-text",
        )
        on_submit(self.name, self.load_named)
        self._load = button("Load", "Load the model that is named here", self.load_named)
        self._load.add_class("nbllm-go")
        self._problem, self._context_problem = text(), text()
        fields = box([self.filter, self.context, self.device], "nbllm-fields", "nbllm-load-with")
        self.top = box([fields, self._context_problem])
        line = box([self.name, self._load], "nbllm-line")
        self.bottom = box([line, self._problem], "nbllm-entry")

    def load_named(self) -> None:
        """Load what is named in the field."""
        name = self.name.value.strip()
        if len(name) > 1 and name[0] == name[-1] and name[0] in _QUOTES:
            name = name[1:-1].strip()  # as it is written behind %llm_load
        if not name:
            self.say("Name a model: a .gguf file, or what %llm_load takes.")
            return
        self._problem.value = f'<div class="nbllm-soft">Loading {text_html(name)} …</div>'
        self._on_load(name, partial(self._finish, self.name.value))

    def _finish(self, written: str, problem: str) -> None:
        """Show what went wrong, or take away what was written and is loaded."""
        self.say(problem)
        if not problem and self.name.value == written:
            self.name.value = ""

    def say(self, problem: str) -> None:
        """Show what went wrong with the named model; "" takes it away."""
        self._problem.value = problem_html(problem)

    def options(self) -> LoadOptions:
        """How to load. Raises ``InvalidOptionError``."""
        written = self.context.value.strip().replace(",", "")
        try:
            context = int(written) if written else None
        except ValueError:
            problem = f"must be an integer (got {self.context.value.strip()!r})"
            raise InvalidOptionError("context_length", problem) from None
        return LoadOptions(context_length=context, device=self.device.value or None)

    def offer_devices(self, resources: Resources) -> None:
        """The devices to choose from; the choice is kept if it can be."""
        usable = [gpu.label for gpu in resources.gpus if not gpu.hidden]
        names = ["CPU", *(["GPU"] if usable else []), *usable]
        self.device.offer([_DEFAULT, *((name, name) for name in names)])

    def wants(self, info: ModelInfo) -> bool:
        """Whether the filter lets a model through."""
        details = (info.name, info.model_type, info.quantization, place_of(info), info.path)
        known = " ".join(str(each) for each in details if each).casefold()
        return all(word in known for word in self.filter.value.casefold().split())

    def _check(self) -> None:
        problem = ""
        try:
            self.options()
        except InvalidOptionError as error:
            problem = str(error)
        mark(self.context, "nbllm-wrong", on=bool(problem))
        self._context_problem.value = problem_html(problem)
