from __future__ import annotations

import random

from nbllm.local.scheduling.prompt_lookup import PromptLookupDrafter, best_length


def test_what_followed_the_same_three_tokens_before_is_guessed() -> None:
    lookup = PromptLookupDrafter()
    assert list(lookup.guess([1, 2, 3, 4, 5, 6, 9, 2, 3, 4]))[:3] == [5, 6, 9]
    assert not lookup.guess([1, 2, 3, 4, 5, 6, 9, 2, 3, 4, 7])


def test_the_newest_place_counts() -> None:
    tokens = [1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 1, 2, 3]
    assert list(PromptLookupDrafter().guess(tokens))[:2] == [5, 0]


def test_a_text_that_goes_round_is_guessed_to_go_on_so() -> None:
    guess = list(PromptLookupDrafter().guess([7, 8, 9, 7, 8, 9, 7, 8, 9]))
    assert guess == ([7, 8, 9] * 11)[:31]


def test_guessing_as_the_text_grows_is_guessing_at_once() -> None:
    source = random.Random(3)
    tokens = [source.randrange(4) for _ in range(300)]
    growing = PromptLookupDrafter()
    for length in range(len(tokens) + 1):
        assert list(growing.guess(tokens[:length])) == list(
            PromptLookupDrafter().guess(tokens[:length])
        )


def test_a_restart_forgets_places_that_were_dropped() -> None:
    lookup = PromptLookupDrafter()
    assert lookup.guess([1, 2, 3, 4, 1, 2, 3])
    lookup.restart()
    assert not lookup.guess([4, 1, 2, 3])


def test_the_rates_follow_what_came_true_checked_or_not() -> None:
    lookup, text = PromptLookupDrafter(), [1, 2, 3, 4, 5, 6] * 20
    for length in range(12, 60):
        lookup.guess(text[:length])
        lookup.compare(text[length : length + 1])
    assert lookup.rates(1)[0] > 0.95
    for _ in range(30):
        lookup.guess(text[:60])
        lookup.compare([99])
    assert lookup.rates(1)[0] < 0.1


def test_only_the_first_wrong_guess_counts_against_the_rates() -> None:
    right, wrong = PromptLookupDrafter(), PromptLookupDrafter()
    for lookup, written in ((right, [4, 5, 6]), (wrong, [9, 5, 6])):
        lookup.guess([1, 2, 3, 4, 5, 6, 1, 2, 3])
        lookup.compare(written)
    assert wrong.rates(1)[0] < PromptLookupDrafter().rates(1)[0] < right.rates(1)[0]
    assert wrong.rates(9)[1:] == PromptLookupDrafter().rates(9)[1:]


def test_guesses_are_trusted_more_behind_others_that_come_true_and_not_after_a_miss() -> None:
    lookup, text = PromptLookupDrafter(), list(range(40))
    doubtful = lookup.rates(31)
    assert doubtful == sorted(doubtful)
    assert doubtful[0] < doubtful[-1]
    lookup.guess([*text, *text[:3]])
    lookup.compare(text[3:33])
    assert min(lookup.rates(31)) > doubtful[-2]
    lookup.guess([*text, *text[:33]])
    lookup.compare([99])
    assert lookup.rates(1)[0] <= doubtful[1]


def flat(rows: int) -> float:
    """A machine that reads weights longer than it computes: more rows cost nearly nothing."""
    return 1.0 + 0.02 * rows


def steep(rows: int) -> float:
    """A machine that computes longer: each row costs as much as the first."""
    return float(rows)


def test_guesses_are_checked_only_where_that_saves_time() -> None:
    assert best_length([0.9] * 31, rows=1, seconds=flat) >= 15
    assert best_length([0.05] * 31, rows=1, seconds=flat) <= 1
    assert best_length([0.9] * 31, rows=1, seconds=steep) == 0
    assert best_length([1.0] * 31, rows=1, seconds=flat) == 31
    assert best_length([1.0] * 31, rows=1, seconds=lambda rows: 1.0 + rows) == 23, "31 adds 1 %"
    assert best_length([1.0] * 6, rows=1, seconds=flat) == 5
    assert best_length([], rows=1, seconds=flat) == 0
    assert best_length([0.9] * 31, rows=1, seconds=lambda rows: None) == 0


def test_fewer_guesses_are_checked_beside_many_answers() -> None:
    def rising(rows: int) -> float:
        return max(1.0, rows / 8)

    alone = best_length([0.8] * 31, rows=1, seconds=rising)
    assert alone > best_length([0.8] * 31, rows=8, seconds=rising) == 0
