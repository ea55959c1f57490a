from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from nbllm.cloud import key_sources
from nbllm.cloud.secrets import Secret
from nbllm.core.api_keys import PERMISSIONS_VARIABLE
from nbllm.core.errors import AuthenticationError
from nbllm.core.types import ModelInfo

KEY = "sk-test-0123456789abcdef"


def info(**values: object) -> ModelInfo:
    return ModelInfo(name="m", model_type="openai", local=False, **values)  # type: ignore[arg-type]


HOME = {
    "OPENAI_API_KEY": "https://api.openai.com/v1",
    "GEMINI_API_KEY": "https://generativelanguage.googleapis.com",
}


def source_of(entry: ModelInfo, usual: str | None = "OPENAI_API_KEY") -> key_sources.KeySource:
    return key_sources.key_source(entry, usual, entry.base_url or HOME[usual or ""])


def key_of(entry: ModelInfo, usual: str | None = "OPENAI_API_KEY") -> Secret | None:
    source = source_of(entry, usual)
    return source.current(source._address)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``allow("VARIABLE@address")``."""
    return lambda pairs: monkeypatch.setenv(PERMISSIONS_VARIABLE, pairs)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(key_sources, "find_spec", lambda name: None)  # no keyring of this machine
    return tmp_path


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-file-123\n")
    monkeypatch.setenv("OPENAI_API_KEY", f"  {KEY}\n")
    found = key_of(info())
    assert found is not None
    assert found.reveal() == KEY


@pytest.mark.parametrize("beside_config", [True, False])
def test_a_dotenv_file_is_read_and_not_put_into_the_environment(
    tmp_path: Path, allow: Callable[[str], None], beside_config: bool
) -> None:
    allow("MY_KEY@https://api.openai.com")
    folder = tmp_path / "configs" if beside_config else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / ".env").write_text(f"# a comment\nexport MY_KEY='{KEY}$HOME'\n")
    entry = info(api_key_env="MY_KEY", config_file=tmp_path / "configs" / "models.json")
    found = key_of(entry)
    assert found is not None
    assert found.reveal() == f"{KEY}$HOME"
    assert "MY_KEY" not in os.environ


def test_an_unreadable_dotenv_file_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"OPENAI_API_KEY=\xff\xfe\x00")
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        key_of(info())


def test_the_keyring_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    _install_keyring(monkeypatch, {("nbllm", "OPENAI_API_KEY"): KEY})
    found = key_of(info())
    assert found is not None
    assert found.reveal() == KEY


def test_a_locked_keyring_is_no_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _install_keyring(monkeypatch, None)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY is not set"):
        key_of(info())


def test_a_missing_key_names_the_variable_and_a_way_that_does_not_show_it() -> None:
    with pytest.raises(AuthenticationError) as caught:
        key_of(info(), "GEMINI_API_KEY")
    message = str(caught.value)
    assert 'os.environ["GEMINI_API_KEY"] = getpass.getpass(' in message
    assert "GOOGLE_API_KEY" in message
    assert ".env" in message
    assert not caught.value.retryable


def test_a_server_of_ones_own_needs_no_key_unless_it_names_one(
    allow: Callable[[str], None],
) -> None:
    allow("LAB_KEY@http://localhost:8000")
    server = info(base_url="http://localhost:8000/v1")
    assert key_of(server) is None
    named = info(base_url="http://localhost:8000/v1", api_key_env="LAB_KEY")
    with pytest.raises(AuthenticationError, match="LAB_KEY is not set"):
        key_of(named)


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "pässword", "tab\there"])
def test_a_key_that_fits_no_header_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY has a space") as caught:
        key_of(info())
    assert value not in str(caught.value)


def test_which_variables_may_hold_the_key() -> None:
    assert key_sources.key_variables(info(), "OPENAI_API_KEY") == ("OPENAI_API_KEY",)
    assert key_sources.key_variables(info(api_key_env="MINE"), "OPENAI_API_KEY") == ("MINE",)


def test_gemini_has_two_usual_variables_and_some_servers_none() -> None:
    assert key_sources.key_variables(info(), "GEMINI_API_KEY") == (
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
    )
    assert key_sources.key_variables(info(base_url="https://lab.example"), None) == ()


def _install_keyring(
    monkeypatch: pytest.MonkeyPatch, entries: dict[tuple[str, str], str] | None
) -> None:
    """A module of keyring's documented interface: the package itself is not on every machine."""
    errors = types.ModuleType("keyring.errors")
    errors.KeyringError = type("KeyringError", (Exception,), {})  # type: ignore[attr-defined]
    ring = types.ModuleType("keyring")

    def get_password(service: str, name: str) -> str | None:
        if entries is None:
            raise errors.KeyringError("locked")  # type: ignore[attr-defined]
        return entries.get((service, name))

    ring.get_password, ring.errors = get_password, errors  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", ring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    monkeypatch.setattr(
        key_sources, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None)
    )


def test_a_key_that_is_set_anew_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    source = source_of(info())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    current = source.current("https://api.openai.com")
    assert current is not None
    assert current.reveal() == KEY
    assert source.in_use() is current
    monkeypatch.delenv("OPENAI_API_KEY")
    assert source.current("https://api.openai.com") is current


def test_a_key_is_given_out_for_its_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    source = source_of(info())
    for address in (
        "https://elsewhere.example",
        "http://api.openai.com",
        "https://api.openai.com:8",
    ):
        assert source.current(address) is None
