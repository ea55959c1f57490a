from __future__ import annotations

import pytest

from nbllm.core.words import duration_words, size_words


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 MiB"), (92 << 20, "92 MiB"), (1000 << 20, "1.0 GiB"), (70 << 30, "70.0 GiB")],
)
def test_sizes(size: int, words: str) -> None:
    assert size_words(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.42, "0.4 s"),
        (12.3, "12 s"),
        (89.9, "90 s"),
        (720, "12 min"),
        (3 * 3600, "3 h"),
        (50 * 3600, "2 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words
