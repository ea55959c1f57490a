"""The playground's generation options: fields that may stay empty, checked while they are typed."""

from __future__ import annotations

from typing import Any

import ipywidgets

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_table import options_of
from nbllm.core.types import GenerationOptions
from nbllm.notebook.dashboard.widgets import field, mark, problem_html, text
from nbllm.notebook.magic_line import numeral

__all__ = ["OptionsForm"]

_FIELDS = (
    ("max_tokens", "Max tokens", "300"),
    ("temperature", "Temperature", ""),
    ("seed", "Seed", ""),
)
_OPTIONS = options_of(GenerationOptions)


class OptionsForm:
    """The ``inputs`` by the names of their options, and a line for what is wrong with them."""

    def __init__(self) -> None:
        self._problem = text()
        self.inputs: dict[str, Any] = {
            name: _input(name, label, value) for name, label, value in _FIELDS
        }
        for entry in self.inputs.values():
            entry.observe(lambda _: self.check(), "value")

    @property
    def problem(self) -> Any:
        """The widget that says what is wrong."""
        return self._problem

    def options(self) -> GenerationOptions:
        """What is filled in. Raises ``InvalidOptionError`` for the first field that is wrong."""
        values: dict[str, Any] = {}
        for name in self.inputs:
            values |= self._value(name)
        return GenerationOptions.of(values)

    def check(self) -> None:
        """Mark the fields that are wrong, and say why."""
        problems = {name: self._problem_of(name) for name in self.inputs}
        for name, problem in problems.items():
            mark(self.inputs[name], "nbllm-wrong", on=bool(problem))
        self._problem.value = problem_html("\n".join(filter(None, problems.values())))

    def _problem_of(self, name: str) -> str:
        try:
            GenerationOptions.of(self._value(name))
        except InvalidOptionError as error:
            return str(error)
        return ""

    def _value(self, name: str) -> dict[str, Any]:
        written = self.inputs[name].value.strip()
        return {name: numeral(written)} if written else {}


def _input(name: str, label: str, value: str) -> Any:
    made = ipywidgets.Text(value, description=label, placeholder="default")
    about, words = _OPTIONS[name].about, _OPTIONS[name].kind.words
    return field(made, f"{about} {words[:1].upper()}{words[1:]}. Empty: the model's default.")
