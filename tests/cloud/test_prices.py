from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from nbllm.cloud import vendors
from nbllm.cloud.prices import PRICES_VARIABLE, Price, PriceTable, load_prices
from nbllm.core.errors import ConfigError
from nbllm.core.types import Usage
from nbllm.core.vendors import VENDORS

USAGE = Usage(prompt_tokens=1_000_000, completion_tokens=100_000, cached_tokens=400_000)


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return load_prices()


def test_the_table_is_dated_and_says_where_it_is_from() -> None:
    folder = Path(vendors.__file__).parent
    for vendor in VENDORS:
        values = json.loads((folder / vendor / "prices.json").read_text())
        assert datetime.date.fromisoformat(values["date"])
        assert values["source"].startswith("https://")
        assert list(values["models"]) == [vendor]
    assert set(load_prices().models) == set(VENDORS)


def test_cached_tokens_have_their_own_price() -> None:
    price = Price(input=2.5, output=10, cached_input=1.25)
    assert price.cost(USAGE) == pytest.approx(0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10)


def test_cached_tokens_of_unknown_price_make_the_cost_unknown() -> None:
    price = Price(input=2.5, output=10)
    assert price.cost(USAGE) is None
    assert price.cost(Usage(prompt_tokens=1_000_000, completion_tokens=0)) == 2.5


def test_what_is_put_into_the_cache_costs_a_quarter_more() -> None:
    usage = Usage(
        prompt_tokens=1_000_000,
        completion_tokens=0,
        cached_tokens=200_000,
        cache_write_tokens=300_000,
    )
    price = Price(input=4, output=20, cached_input=0.4)
    assert price.cost(usage) == pytest.approx(0.5 * 4 + 0.2 * 0.4 + 0.3 * 5)
    told = Price(input=4, output=20, cached_input=0.4, cache_write=8)
    assert told.cost(usage) == pytest.approx(0.5 * 4 + 0.2 * 0.4 + 0.3 * 8)


def test_unknown_counts_cost_an_unknown_price() -> None:
    price = Price(input=4, output=20)
    assert price.cost(Usage()) is None
    assert price.cost(Usage(prompt_tokens=1)) is None
    assert price.cost(Usage(completion_tokens=1)) is None


def test_long_prompts_cost_what_they_cost(table: PriceTable) -> None:
    short = Usage(prompt_tokens=200_000, completion_tokens=1_000_000)
    long = Usage(prompt_tokens=200_001, completion_tokens=1_000_000)
    assert table.cost("gemini", "gemini-2.5-pro", short) == pytest.approx(10.25)
    assert table.cost("gemini", "gemini-2.5-pro", long) == pytest.approx(15.5, rel=1e-5)


@pytest.mark.parametrize(
    ("seller", "model", "known_as"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-4"),
        ("anthropic", "claude-opus-4@20250514", "claude-opus-4"),
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini", "gemini-2.5-flash-001", "gemini-2.5-flash"),
    ],
)
def test_dated_versions_have_the_price_of_their_model(
    table: PriceTable, seller: str, model: str, known_as: str
) -> None:
    found = table.find(seller, model)
    assert found is not None
    assert found is table.models[seller][known_as]


def test_a_dated_version_may_have_a_price_of_its_own(table: PriceTable) -> None:
    assert table.find("openai", "gpt-4o-2024-05-13") == Price(input=5, output=15)


@pytest.mark.parametrize(
    ("seller", "model"),
    [
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-9"),
        ("openai", "ft:gpt-4o-2024-08-06:me::1"),
        ("anthropic", "claude-opus-4-9"),
        ("localhost:8000", "gpt-4o"),
    ],
)
def test_an_unknown_price_is_none_and_never_zero(
    table: PriceTable, seller: str, model: str
) -> None:
    assert table.cost(seller, model, USAGE) is None


def test_the_user_can_replace_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"models": {"openrouter.ai": {"x": {"input": 1, "output": 2}}}}')
    monkeypatch.setenv(PRICES_VARIABLE, str(file))
    for table in (load_prices(), load_prices(file)):
        assert table.find("openrouter.ai", "x") == Price(1, 2)
        assert table.find("openai", "gpt-4o") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "cannot be read"),
        ("[]", "must be a JSON object"),
        ('{"models": {"openai": []}}', "key 'openai'"),
        ('{"models": {"openai": {"m": {"input": "1"}}}}', "entry 'm', key 'input'"),
        ('{"models": {"openai": {"m": {"input": 1}}}}', "entry 'm', key 'output'"),
        (
            '{"models": {"openai": {"m": {"input": -1, "output": 1}}}}',
            "must be a price of 0 or more",
        ),
    ],
)
def test_a_broken_table_is_explained(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_prices(file)
    assert "mine.json" in str(caught.value)


def test_a_missing_table_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json"):
        load_prices(tmp_path / "absent.json")
