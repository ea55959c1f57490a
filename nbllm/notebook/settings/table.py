"""The settings as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from nbllm.notebook.settings.setting_changes import OPTIONS
from nbllm.notebook.settings.settings import NbLLM
from nbllm.notebook.tables import Table

__all__ = ["settings_table"]

_OPTION = "A generation option; a flag of %%llm overrides it."


def settings_table(settings: NbLLM, names: Sequence[str] = ()) -> Table:
    """One row a setting: what it is, who set it so, what it would be, what it means.

    ``names`` are those to show, generation options too; without any, all settings.
    """
    shown = names or sorted(settings.trait_names(config=True))
    return Table(pd.DataFrame([_row(settings, name) for name in shown], dtype="string"))


def _row(settings: NbLLM, name: str) -> dict[str, str]:
    if name in OPTIONS:
        value, default, meaning = settings.options.get(name), None, _OPTION
        configured = settings.configured["options"].get(name)
    else:
        value, default = getattr(settings, name), settings.trait_defaults(name)
        meaning, configured = settings.traits()[name].help, settings.configured[name]
    return {
        "setting": name,
        "value": _text(value),
        "set by": _origin(value, default, configured),
        "default": _text(default),
        "meaning": meaning,
    }


def _origin(value: object, default: object, configured: object) -> str:
    if value == default:
        return "default"
    return "IPython's configuration" if value == configured else "this kernel"


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
