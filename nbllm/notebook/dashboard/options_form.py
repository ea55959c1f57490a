"""The playground's generation options: fields that may stay empty, checked while they are typed."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets

from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import options_from
from nbllm.core.options import option_bounds
from nbllm.core.types import GenerationOptions
from nbllm.notebook.dashboard.widgets import field, mark, problem_html, text

__all__ = ["OptionsForm"]

_MOST = 2**31 - 1
"""Bounds beyond it are those of the machine, and of no interest to a reader."""
_FIELDS = (
    ("max_tokens", "Max tokens", int, "300", "The longest response, in tokens."),
    (
        "temperature",
        "Temperature",
        float,
        "",
        "Sampling temperature; 0 always picks the most likely token.",
    ),
    ("seed", "Seed", int, "", "The same seed gives the same response."),
)


class OptionsForm:
    """The ``inputs`` by the names of their options, and a line for what is wrong with them."""

    def __init__(self) -> None:
        self._problem = text()
        self._kinds = {name: kind for name, _, kind, _, _ in _FIELDS}
        self.inputs: dict[str, Any] = {
            name: _input(name, label, value, about) for name, label, _, value, about in _FIELDS
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
        return options_from(values)

    def check(self) -> None:
        """Mark the fields that are wrong, and say why."""
        problems = {name: self._problem_of(name) for name in self.inputs}
        for name, problem in problems.items():
            mark(self.inputs[name], "nbllm-wrong", on=bool(problem))
        self._problem.value = problem_html("\n".join(filter(None, problems.values())))

    def _problem_of(self, name: str) -> str:
        try:
            options_from(self._value(name))
        except InvalidOptionError as error:
            return str(error)
        return ""

    def _value(self, name: str) -> dict[str, Any]:
        written = self.inputs[name].value.strip()
        try:
            return {name: self._kinds[name](written)} if written else {}
        except ValueError:
            kind = "an integer" if self._kinds[name] is int else "a number"
            raise InvalidOptionError(name, f"must be {kind} (got {written!r})") from None


def _input(name: str, label: str, value: str, about: str) -> Any:
    made = ipywidgets.Text(value, description=label, placeholder="default")
    return field(made, f"{about} {_bounds_words(name)}. Empty: the model's default.")


def _bounds_words(name: str) -> str:
    low, high = option_bounds(name)
    is_open = math.isinf(high) or high >= _MOST
    return f"At least {low:g}" if is_open else f"From {low:g} to {high:g}"
