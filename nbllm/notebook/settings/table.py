"""The settings as a table."""

from __future__ import annotations

import json

import pandas as pd

from nbllm.notebook.settings.settings import NbLLM
from nbllm.notebook.tables import Table

__all__ = ["settings_table"]


def settings_table(settings: NbLLM) -> Table:
    """One row a setting: what it is, what it would be, what it means."""
    rows = [
        {
            "setting": name,
            "value": _text(getattr(settings, name)),
            "default": _text(settings.trait_defaults(name)),
            "meaning": trait.help,
        }
        for name, trait in sorted(settings.traits(config=True).items())
    ]
    return Table(pd.DataFrame(rows, dtype="string"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
