"""A machine of one's own for what is found on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbllm.core.catalogue import headers, listing

VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "LLAMA_CACHE",
    "OLLAMA_MODELS",
    "NBLLM_MODEL_FOLDERS",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "JAN_DATA_FOLDER",
    "LOCALAPPDATA",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, with nothing in it, and another folder to work in."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(here)
    monkeypatch.setattr("nbllm.core.catalogue.ollama._SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(headers, "HEADERS", headers.Headers(tmp_path / "headers.json"))
    monkeypatch.setattr(listing, "HEADERS", headers.HEADERS)
    return home
