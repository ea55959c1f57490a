"""A vendor is added by one folder and one line: here is one, and everything knows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nbllm import ModelManager
from nbllm.cloud import prices, vendors
from nbllm.cloud.vendors.error_meanings import strong_words
from nbllm.core.api_keys import is_allowed
from nbllm.core.naming.providers import server_entry, vendor_model
from nbllm.core.openers import known_vendor_models
from nbllm.core.vendors import VENDORS, Vendor
from nbllm.errors import QuotaError

from .conftest import Connection, Received, Script

FOLDER = """
from nbllm.cloud.adapter import Meaning
from nbllm.cloud.vendors.openai import OpenAIAdapter
from nbllm.core.vendors import VENDORS

class ToyAdapter(OpenAIAdapter):
    default_base_url = f"https://{VENDORS['toy'].hosts[0]}/v9"
    default_key_env = VENDORS["toy"].key_variable
    error_words = {"outofsweets": Meaning.QUOTA}

    def key_headers(self, key):
        return {"x-toy-key": key}

ADAPTER = ToyAdapter()
"""
PRICES = """{"date": "2026-01-01", "models": {"toy": {"toy-1": {"input": 1, "output": 2}}}}"""
LINE = Vendor(
    "Toys", "TOY_API_KEY", ("api.toy.example",), re.compile(r"toy-"), re.compile(r"toys?\b")
)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "vendors" / "toy"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(FOLDER)
    (folder / "prices.json").write_text(PRICES)
    monkeypatch.setattr(vendors, "__path__", [*vendors.__path__, str(folder.parent)])
    monkeypatch.setitem(VENDORS, "toy", LINE)  # type: ignore[arg-type]
    monkeypatch.setattr(prices, "_VENDORS", folder.parent)
    monkeypatch.setenv("TOY_API_KEY", "toy-key-0123456789")
    strong_words.cache_clear()
    yield
    strong_words.cache_clear()


@pytest.mark.usefixtures("toy")
def test_its_names_address_key_and_prices_are_known() -> None:
    info = vendor_model("toy-1")
    assert info is not None
    assert info.model_type == "toy"
    assert vendor_model("toy/anything") is not None
    at_address = server_entry("https://api.toy.example/v9#toy-1")
    assert at_address is not None
    assert at_address.model_type == "toy"
    assert is_allowed("TOY_API_KEY", "https://api.toy.example")
    assert not is_allowed("TOY_API_KEY", "https://api.openai.com")
    assert known_vendor_models() == ["toy-1"]


@pytest.mark.usefixtures("toy")
async def test_it_answers_and_its_errors_have_their_class(
    threaded_server: Callable[[Script], str],
    say: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys: list[str | None] = []

    async def script(request: Received, connection: Connection) -> None:
        keys.append(request.headers.get("x-toy-key"))
        if request.method == "GET":
            await connection.answer(200, {"data": [{"id": "toy-1"}]})
        elif b"more" in request.body:
            await connection.answer(400, {"error": {"code": "out_of_sweets", "message": "no"}})
        else:
            await connection.stream(*say("hello"))

    url = threaded_server(script)
    monkeypatch.setenv("NBLLM_ALLOW_KEYS", f"TOY_API_KEY@{url}")
    entry = vendor_model("toy-1")
    assert entry is not None
    async with ModelManager([replace(entry, base_url=url, api="chat")]) as manager:
        model, _ = await manager.load_model("toy-1")
        assert (await model.generate("hi")).text == "hello"
        with pytest.raises(QuotaError):
            await model.generate("more")
    assert set(keys) == {"toy-key-0123456789"}
