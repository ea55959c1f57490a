from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from nbllm.local.scheduling.prefixes import PrefixStore, shared_length

tokens = st.lists(st.integers(0, 2), max_size=80)


def common_beginning(first: list[int], second: list[int]) -> list[tuple[int, int]]:
    pairs = zip(first, second, strict=False)
    return list(takewhile(lambda pair: pair[0] == pair[1], pairs))


@given(first=tokens, second=tokens)
def test_the_shared_length_is_that_of_the_common_beginning(
    first: list[int], second: list[int]
) -> None:
    assert shared_length(first, second) == len(common_beginning(first, second))


@given(begin=tokens, first=tokens, second=tokens)
def test_it_is_at_least_what_was_put_in_front_of_both(
    begin: list[int], first: list[int], second: list[int]
) -> None:
    assert shared_length(begin + first, begin + second) >= len(begin)


def test_the_state_that_shares_most_is_found() -> None:
    store = PrefixStore(100)
    store.put([1, 2, 3], b"short")
    store.put([1, 2, 4, 5, 6], b"long")
    assert store.find([1, 2, 4, 5, 9], whole=False) == ((1, 2, 4, 5, 6), b"long")
    assert store.find([1, 2, 4, 5, 9], whole=True) is None
    assert store.find([1, 2, 3, 9], whole=True) == ((1, 2, 3), b"short")
    assert store.find([7], whole=False) is None


def test_the_bytes_are_bounded_and_the_longest_unused_go_first() -> None:
    store = PrefixStore(10)
    for first in (1, 2, 3):
        store.put([first, 0], bytes(4))
        store.find([1, 9], whole=False)  # the first is used all the time
    assert store.size_bytes == 8
    assert store.find([2, 9], whole=False) is None
    assert store.find([1, 9], whole=False) is not None


def test_a_state_replaces_the_beginnings_of_it() -> None:
    store = PrefixStore(100)
    store.put([1, 2], bytes(4))
    assert not store.wants([1, 2], 4)
    assert not store.wants([1], 4)
    assert store.wants([1, 2, 3], 4)
    store.put([1, 2, 3], bytes(6))
    assert store.size_bytes == 6


def test_a_state_that_is_too_large_or_empty_is_not_wanted() -> None:
    store = PrefixStore(10)
    assert not store.wants([1], 11)
    assert not store.wants([1], 0)
    assert not PrefixStore(0).wants([1], 5)
