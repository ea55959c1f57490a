"""What an answer cost, from a small dated table that the user can replace."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbllm.core.errors import ConfigError
from nbllm.core.json_checks import parse_json
from nbllm.core.paths import absolute_path, read_text, reason
from nbllm.core.types import Usage
from nbllm.core.vendors import VENDORS

__all__ = ["PRICES_VARIABLE", "Price", "PriceTable", "load_prices"]

PRICES_VARIABLE = "NBLLM_PRICES"
"""Names a file to be used instead of the vendors' own, ``prices.json`` in each one's folder."""

_VENDORS = Path(__file__).with_name("vendors")
_VERSION = re.compile(r"(-\d{4}-\d\d-\d\d|[-@]\d{8}|-\d{3}|-latest)$")
_MILLION = 1_000_000
_MAX_BYTES = 16 * 2**20
_WRITE_FACTOR = 1.25
"""https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing"""


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens; ``cached_input`` is None where it is not known.

    ``cache_write`` is for tokens that the vendor puts into its cache; without it they cost what
    Anthropic asks for five minutes, a quarter more than others. Prompts of more than
    ``above_tokens`` cost ``long_prompt`` instead, the answer included.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    above_tokens: int | None = None
    long_prompt: Price | None = None

    def cost(self, usage: Usage) -> float | None:
        """USD for ``usage``; None where a price that it needs is not known."""
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is None or completion is None:
            return None
        if self.long_prompt is not None and prompt > (self.above_tokens or 0):
            return self.long_prompt.cost(usage)
        if usage.cached_tokens and self.cached_input is None:
            return None
        write = _WRITE_FACTOR * self.input if self.cache_write is None else self.cache_write
        return (
            (prompt - usage.cached_tokens - usage.cache_write_tokens) * self.input
            + usage.cached_tokens * (self.cached_input or 0.0)
            + usage.cache_write_tokens * write
            + completion * self.output
        ) / _MILLION


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by seller, then by model; ``date`` is the day on which the oldest were looked up.

    A seller is a vendor's type ("openai"), or the host of a server ("openrouter.ai").
    """

    date: str
    models: Mapping[str, Mapping[str, Price]]

    def find(self, seller: str, model: str) -> Price | None:
        """The price of the model, or of the one that it is a dated version of.

        Nothing else counts as alike: "gpt-4o-audio-preview" has not the price of "gpt-4o".
        """
        prices = self.models.get(seller, {})
        name = model.removeprefix("models/")
        return prices.get(name) or prices.get(_VERSION.sub("", name))

    def cost(self, seller: str, model: str, usage: Usage) -> float | None:
        """USD for ``usage``; None where the price is not known, and never 0 instead."""
        price = self.find(seller, model)
        return None if price is None else price.cost(usage)


def load_prices(path: Path | None = None) -> PriceTable:
    """The table in ``path``, else in the file that NBLLM_PRICES names, else the vendors' own.

    Raises ``ConfigError`` that names the file, the model and the key.
    """
    named = os.environ.get(PRICES_VARIABLE)
    if path or named:
        return _read(path or Path(named or ""))
    files = (_VENDORS / vendor / "prices.json" for vendor in VENDORS)
    tables = [_read(file) for file in files if file.is_file()]
    models = {seller: prices for table in tables for seller, prices in table.models.items()}
    return PriceTable(min((table.date for table in tables), default=""), models)


def _read(file: Path) -> PriceTable:
    try:
        values = parse_json(read_text(absolute_path(file), _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the prices cannot be read: {reason(error)}", file=file) from None
    return _table(values, file)


def _table(values: Any, file: Path) -> PriceTable:
    models = _mapping(_mapping(values, file).get("models"), file, key="models")
    return PriceTable(
        date=str(values.get("date", "")),
        models={
            seller: {
                name: _price(entry, file, name)
                for name, entry in _mapping(entries, file, key=seller).items()
            }
            for seller, entries in models.items()
        },
    )


def _price(values: Any, file: Path, name: str) -> Price:
    entry = _mapping(values, file, entry=name)
    long_prompt = entry.get("long_prompt")
    if long_prompt is None:
        return Price(
            input=_number(entry, "input", file, name),
            output=_number(entry, "output", file, name),
            cached_input=_optional(entry, "cached_input", file, name),
            cache_write=_optional(entry, "cache_write", file, name),
        )
    short = _price({**entry, "long_prompt": None}, file, name)
    above = _number(_mapping(long_prompt, file, entry=name), "above_tokens", file, name)
    return replace(short, above_tokens=int(above), long_prompt=_price(long_prompt, file, name))


def _optional(entry: Mapping[str, Any], key: str, file: Path, name: str) -> float | None:
    return _number(entry, key, file, name) if key in entry else None


def _number(entry: Mapping[str, Any], key: str, file: Path, name: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        problem = f"must be a price of 0 or more (got {value!r})"
        raise ConfigError(problem, file=file, entry=name, key=key)
    return value


def _mapping(
    value: Any, file: Path, *, entry: str | None = None, key: str | None = None
) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError("must be a JSON object", file=file, entry=entry, key=key)
    return value
