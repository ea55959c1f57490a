"""What a person allowed is kept, and counts for exactly that, however an address is written.

What looks like a key is found in linear time: a config may come from a stranger.
"""

from __future__ import annotations

import json
import string
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.key_sources import address_of
from nbllm.core import api_keys
from nbllm.core.api_keys import (
    PERMISSIONS_VARIABLE,
    allow_key,
    disallow_key,
    is_allowed,
    looks_like_key,
    where_is_key,
)
from nbllm.core.errors import ConfigError, InvalidOptionError, NbllmError


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(PERMISSIONS_VARIABLE, raising=False)
    return api_keys._file()


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("OPENAI_API_KEY", "https://api.openai.com"),
        ("OPENAI_WORK_API_KEY", "https://eu.api.openai.com"),
        ("ANTHROPIC_API_KEY", "https://api.anthropic.com"),
        ("ANTHROPIC_AUTH_TOKEN", "https://api.anthropic.com"),
        ("GEMINI_API_KEY", "https://generativelanguage.googleapis.com"),
        ("GOOGLE_API_KEY", "https://generativelanguage.googleapis.com"),
        ("OPENROUTER_API_KEY", "https://openrouter.ai"),
        ("HF_TOKEN", "https://router.huggingface.co"),
    ],
)
def test_a_vendors_key_may_go_home(variable: str, address: str) -> None:
    assert is_allowed(variable, address)
    assert not is_allowed(variable, address.replace("https:", "http:"))
    assert not is_allowed(variable, f"{address}:8443")
    assert not is_allowed(variable, f"{address}.evil.test")
    assert not is_allowed(variable, f"{address}.")
    assert not is_allowed(variable, address.replace("https://", "https://evil."))


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "HF_TOKEN",
        "DATABASE_API_KEY",
        "GOOGLE_MAPS_API_KEY",
        "OPENAI",
        "OPENAI_SECRET",
        "openai_api_key",
        "MY_OPENAI_API_KEY",
        "OPENAIX_API_KEY",
        "ANTHROPIC_API_KEY",
        "HOME",
    ],
)
def test_another_variable_may_not_go_to_a_vendor(variable: str) -> None:
    assert not is_allowed(variable, "https://api.openai.com")


def test_what_is_allowed_is_kept_for_this_variable_and_this_address_only(file: Path) -> None:
    allow_key("LAB_KEY", "http://LAB.example:80/v1/")
    allow_key("LAB_KEY", "https://lab.example:8443")
    allow_key("LAB_KEY", "https://[::1]:8443/v1")
    assert json.loads(file.read_text()) == {
        "LAB_KEY": ["http://lab.example", "https://[::1]:8443", "https://lab.example:8443"]
    }
    assert is_allowed("LAB_KEY", "http://lab.example")
    assert is_allowed("LAB_KEY", "https://lab.example:8443")
    for address in ("https://lab.example", "http://lab.example:8080", "http://x.lab.example"):
        assert not is_allowed("LAB_KEY", address)
    assert not is_allowed("LAB_KEY2", "http://lab.example")
    disallow_key("LAB_KEY", "http://lab.example")
    assert not is_allowed("LAB_KEY", "http://lab.example")
    assert is_allowed("LAB_KEY", "https://lab.example:8443")


@pytest.mark.parametrize(
    "address",
    [
        "lab.example",
        "ftp://lab.example",
        "https://",
        "https://api.openai.com@evil.test",
        "https://user:secret@lab.example",
        "https://evil.test\\.api.openai.com",
        "https://lab.example:0",
        "https://lab.example:99999",
        "https://lab.example:٣",
        "https://bücher.example",
        "https://*.example",
        "https://lab.example?x",
        "https://lab example",
        "https://lab.example/\n",
        "",
        None,
        7,
    ],
)
def test_an_address_that_is_not_plain_is_refused(address: str, file: Path) -> None:
    with pytest.raises(InvalidOptionError, match="address"):
        allow_key("LAB_KEY", address)
    assert not file.exists()


@pytest.mark.parametrize("variable", ["", "https://lab.example", "A B", "A=B", "A@B", "1A", None])
def test_a_variable_that_is_none_is_refused(variable: str) -> None:
    with pytest.raises(InvalidOptionError, match="variable"):
        allow_key(variable, "https://lab.example")


def test_runs_without_a_person_are_allowed_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        PERMISSIONS_VARIABLE, "LAB_KEY@https://lab.example, A@http://10.1.2.3:8000/v1 ,"
    )
    assert is_allowed("LAB_KEY", "https://lab.example")
    assert is_allowed("A", "http://10.1.2.3:8000")
    assert not is_allowed("A", "https://lab.example")
    monkeypatch.setenv(PERMISSIONS_VARIABLE, "LAB_KEY=https://lab.example")
    with pytest.raises(InvalidOptionError, match=PERMISSIONS_VARIABLE):
        is_allowed("LAB_KEY", "https://lab.example")


@pytest.mark.parametrize(
    ("told", "address", "allowed"),
    [
        ("https://lab.example/v1", "https://lab.example", True),
        ("http://localhost:8000/v1", "http://localhost:8000", True),
        ("http://10.1.2.3:8000/v1", "http://10.1.2.3:8000", False),
        ("https://lab.example/v1", "https://other.example", False),
        ("lab.example", "https://lab.example", False),
    ],
)
def test_an_address_that_the_environment_has_beside_a_key_is_the_persons_word(
    told: str, address: str, allowed: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", told)
    assert is_allowed("OPENAI_API_KEY", address) is allowed
    assert not is_allowed("LAB_KEY", address)


@pytest.mark.parametrize("content", ["{", "[]", '{"A": "https://x"}', '{"A": [1]}', "[" * 99999])
def test_a_damaged_file_allows_nothing_and_is_not_overwritten(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(content)
    for use in (is_allowed, allow_key):
        with pytest.raises(ConfigError, match=r"allowed_keys\.json"):
            use("LAB_KEY", "https://lab.example")
    assert file.read_text() == content
    assert is_allowed("OPENAI_API_KEY", "https://api.openai.com")


_PIECES = st.sampled_from(
    ["https://", "http://", "api.openai.com", "lab.example", "@", ":", "443", "/", "\\", ".", "#",
     "?", "[::1]", "%2e", "\u0430", "\u3002", " ", "\t", "evil.test"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=8).map("".join) | st.text(string.printable, max_size=30))
def test_what_is_kept_is_what_the_requests_are_compared_with(address: str) -> None:
    """However an address is written: httpx connects to what was allowed, or it is refused."""
    try:
        allowed = api_keys._checked_address(address)
    except NbllmError:
        return
    assert address_of(httpx.URL(address)) == allowed
    assert "@" not in allowed


TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w"
BEGINNINGS = [
    "sk-", "AIza", "AQ.", "ya29.", "gsk_", "hf_", "xai-", "ghp_", "github_pat_", "AKIA", "eyJ",
    ".eyJ", "-eyJ", "Bearer ", "bearer", " ", "://", "&", "=", "?", "@", "a", "-", "_", ".",
]  # fmt: skip


@pytest.mark.parametrize(
    "text", [TOKEN, f"x {TOKEN}", f"token={TOKEN};", f"a-{TOKEN}", f"_{TOKEN}"]
)
def test_a_web_token_is_found(text: str) -> None:
    assert looks_like_key(text)


@pytest.mark.parametrize("text", ["eyJ.eyJ", "the .eyJ file", "some.eyJhbGciOiJIUzI1NiJ9"])
def test_what_only_begins_like_one_is_not(text: str) -> None:
    assert not looks_like_key(text)


@pytest.mark.parametrize("piece", BEGINNINGS)
@pytest.mark.parametrize("before", ["", "://h?", "Bearer "])
def test_the_time_is_linear_in_the_text(piece: str, before: str) -> None:
    """An eighth of a MiB, with a margin of many times for a busy machine; some took minutes."""
    text = before + piece * (2**17 // len(piece))
    begun = time.process_time()
    where_is_key({"name": text, text: 1})
    assert time.process_time() - begun < 1.25


@given(st.lists(st.sampled_from([*BEGINNINGS, "AB12" * 3]), max_size=20).map("".join))
def test_no_mixture_breaks_it(text: str) -> None:
    where_is_key({text: [text, {"base_url": text}]})
