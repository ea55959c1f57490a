"""What stands about the list of models: a filter, how the next one is loaded, and its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ipywidgets

from nbllm.core.errors import InvalidOptionError
from nbllm.core.hardware.resources import Resources
from nbllm.core.kinds import place_of
from nbllm.core.rendering.escaping import text_html
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.notebook.dashboard.widgets import (
    box,
    button,
    field,
    mark,
    on_submit,
    problem_html,
    text,
)

__all__ = ["LoadForm"]

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
            ipywidgets.Dropdown(description="Device", options=[_DEFAULT, ("CPU", "CPU")]),
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
        options = (_DEFAULT, *((name, name) for name in names))
        if tuple(self.device.options) != options:
            chosen = self.device.value
            self.device.options = options
            self.device.value = chosen if chosen in names else ""

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
