"""Kinds of models: every entry has one, and what they differ in is asked of it."""

from __future__ import annotations

from importlib import import_module

import pytest

from nbllm.core.kinds import KINDS, Kind, kind_of, place_of
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import SERVER_TYPES, VENDORS
from nbllm.testing import fake_info


@pytest.mark.parametrize(
    ("info", "name", "place"),
    [
        (fake_info(), "local", None),
        (ModelInfo(name="m", model_type="llama", local=True), "local", None),
        (ModelInfo(name="m", model_type="openai", local=True), "local", None),
        (ModelInfo(name="m", model_type="unheard-of", local=False), "vendor", "cloud"),
        *((ModelInfo(name="m", model_type=t, local=False), "vendor", "cloud") for t in VENDORS),
        (ModelInfo(name="m", model_type="ollama", local=False), "server", "server"),
        (ModelInfo(name="m", model_type="openrouter", local=False), "vendor", "cloud"),
        (
            ModelInfo(name="m", model_type="openai", local=False, base_url="http://10.0.0.7/v1"),
            "server",
            "server",
        ),
    ],
)
def test_every_entry_has_one_kind(info: ModelInfo, name: str, place: str | None) -> None:
    assert (kind_of(info).name, place_of(info)) == (name, place)


@pytest.mark.parametrize("model_type", SERVER_TYPES)
def test_a_server_nobody_else_can_reach_is_ones_own(model_type: str) -> None:
    info = ModelInfo(
        name="m", model_type=model_type, local=False, base_url="http://localhost:8000/v1"
    )
    assert kind_of(info).name == "server"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_can_be_opened(kind: Kind) -> None:
    assert callable(import_module(kind.opener).open_model)


def test_only_what_is_in_this_machines_memory_has_no_other_place() -> None:
    assert [kind.name for kind in KINDS if kind.takes_memory] == ["local"]
    assert all(kind.takes_memory is (kind.place is None) for kind in KINDS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
