"""A hub of the test's own, a cache of its own, and a manager that knows a small machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, fake_hub

from nbllm.core.model_manager import ModelManager


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty; records and locks are the test's own too."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "hf" / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that HF_ENDPOINT points to."""
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr("nbllm.hub.transfer._FIRST_PAUSE", 0.01)
        yield hub


@pytest.fixture
def manager(tmp_path: Path) -> ModelManager:
    """A manager whose folder is empty."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return ModelManager(folder=folder)
