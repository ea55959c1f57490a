from __future__ import annotations

import copy
import logging
import pickle
import time
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.secrets import HIDDEN, Secret, hide_in_logs, scrub, scrub_cut, scrub_error
from nbllm.core.errors import AuthenticationError

KEY = "sk-proj-Zq8vT2mNxW5yLr0KdJh4wxyz"
SECRET = Secret(KEY)


def test_a_secret_shows_itself_nowhere() -> None:
    for text in (repr(SECRET), str(SECRET), f"{SECRET}", f"{[SECRET]!r}"):
        assert "Zq8v" not in text
    for save in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            save(SECRET)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"Incorrect API key provided: {KEY}.", f"Incorrect API key provided: {HIDDEN}."),
        (
            "Incorrect API key provided: sk-proj-********wxyz. See the page",
            f"Incorrect API key provided: {HIDDEN}. See the page",
        ),
        ("Your key sk-p...wxyz was revoked", f"Your key {HIDDEN} was revoked"),
        ("Your key ****wxyz is wrong", f"Your key {HIDDEN} is wrong"),
        ("the key that ends in wxyz", f"the key that ends in {HIDDEN}"),
        ("first part: Zq8vT2mN", f"first part: {HIDDEN}"),
        (f"{KEY}{KEY}", HIDDEN),
        ("wait... what? ** nothing ** here", "wait... what? ** nothing ** here"),
        ("model gpt-4o does not exist", "model gpt-4o does not exist"),
        ("", ""),
    ],
)
def test_scrub(said: str, shown: str) -> None:
    assert scrub(said, SECRET) == shown


@given(st.text(max_size=20), st.integers(0, len(KEY) - 6), st.integers(6, len(KEY)), st.text())
def test_no_run_of_a_key_survives(before: str, start: int, length: int, after: str) -> None:
    piece = KEY[start : start + length]
    shown = scrub(f"{before}{piece}{after}", SECRET)
    assert not any(KEY[at : at + 6] in shown for at in range(len(KEY) - 5))


@given(st.text(alphabet="abc .*-", max_size=40))
def test_a_text_without_the_key_stays_as_it_is(text: str) -> None:
    assert scrub(text, Secret("QQQQ-1111-ZZZZ-2222")) == text


def test_a_placeholder_does_not_tear_words_apart() -> None:
    assert scrub("nonexistent none", Secret("none")) == f"nonexistent {HIDDEN}"


def _error_with_a_past() -> AuthenticationError:
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        try:
            raise ValueError(f"illegal header {headers}")
        except ValueError as error:
            raise AuthenticationError("m", f"refused {KEY}", code=KEY, partial_text=KEY) from error
    except AuthenticationError as error:
        return error


def test_an_error_is_scrubbed_with_all_that_is_behind_it() -> None:
    error = _error_with_a_past()
    clean = scrub_error(error, SECRET)
    assert clean is error
    try:
        raise clean
    except AuthenticationError as caught:
        shown = traceback.TracebackException.from_exception(caught, capture_locals=True)
        text = "".join(shown.format()) + repr(vars(caught))
    assert "refused [key]" in text
    assert "Zq8v" not in text


def test_logs_are_scrubbed_until_told_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("httpcore.http11")
    caplog.set_level(logging.DEBUG, logger="httpcore.http11")
    stop = hide_in_logs(lambda: SECRET)
    logger.debug("receive_response_headers.complete return_value=%r", [(b"X-Echo", KEY)])
    assert HIDDEN in caplog.text
    assert "Zq8v" not in caplog.text
    stop()
    assert not logger.filters


_PIECES = [
    "ACGT",
    "a",
    "..a",
    "*a",
    "•a",
    "…",
    ".",
    "*",
    "-",
    " ",
    "sk-...",
    "sk-p...wxyz",
    KEY[:5],
    KEY,
]


@pytest.mark.parametrize("piece", [*_PIECES, "\n", "é", "<title", "sk-", "...wxyz"])
@pytest.mark.parametrize("key", [KEY, "none", "a" * 40, "eyJ" + "ab-_" * 500])
def test_the_time_is_linear_in_the_text(piece: str, key: str) -> None:
    """64 KiB of a body, with a margin of many times for a busy machine; it was two minutes."""
    text = (piece * (2**16 // len(piece) + 1))[: 2**16]
    begun = time.process_time()
    scrub(text, Secret(key))
    assert time.process_time() - begun < 2


@given(st.lists(st.sampled_from([*_PIECES, KEY[-4:], KEY[:3], "wxyz", "the key"]), max_size=12))
def test_nothing_of_the_key_is_left_in_any_mixture(pieces: list[str]) -> None:
    shown = scrub(" ".join(pieces), SECRET)
    assert not any(KEY[at : at + 6] in shown for at in range(len(KEY) - 5))
    assert "wxyz" not in shown.split()


@given(st.text(max_size=20), st.integers(3, len(KEY)))
def test_a_text_that_is_cut_within_the_key_shows_nothing_of_it(before: str, length: int) -> None:
    cut = f"{before} {KEY[:length]}"
    assert scrub_cut(cut, SECRET) == f"{scrub(before + ' ', SECRET)}{HIDDEN}"
    assert scrub_cut(before, None) == before


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a...sk-p...wxyz", f"a...{HIDDEN}"),
        ("sk-p...wxyz...wxyz", f"{HIDDEN}...{HIDDEN}"),
        ("(sk-p***wxyz)", f"({HIDDEN})"),
        ("xsk-p...wxyz", f"xsk-p...{HIDDEN}"),
    ],
)
def test_masked_forms_beside_one_another(said: str, shown: str) -> None:
    assert scrub(said, SECRET) == shown
