"""What looks like a key is found in linear time: a config may come from a stranger."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.api_keys import looks_like_key, where_is_key

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
