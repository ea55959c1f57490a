"""The search for the most probable label, over made-up distributions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbllm.local.scheduling.label_decisions import Decision, LabelTree

TOKENS = 12


def logits(path: Sequence[int], seed: int = 0, spread: float = 1.0) -> NDArray[np.float32]:
    """A distribution of its own behind each path."""
    generator = np.random.default_rng([seed, len(path), *path])
    return (spread * generator.standard_normal(TOKENS)).astype(np.float32)


def logprobs(path: Sequence[int], seed: int, spread: float) -> NDArray[np.float64]:
    values = logits(path, seed, spread).astype(np.float64)
    result: NDArray[np.float64] = values - np.logaddexp.reduce(values)
    return result


def decided(forms: Sequence[Any], seed: int = 0, spread: float = 1.0, ahead: int = 0) -> Decision:
    decision, reads = Decision(LabelTree.of(forms)), 0
    while not decision.is_over:
        path, more = decision.path, decision.ahead()[:ahead]
        paths = [path + more[:count] for count in range(len(more) + 1)]
        decision.take([logits(each, seed, spread) for each in paths])
        reads += 1
        assert reads < 10_000
    return decision


def expected(labels: Sequence[tuple[int, ...]], seed: int, spread: float) -> list[float]:
    """By the definition: an answer that begins with the label, and with no longer one."""

    def begins(tokens: Sequence[int]) -> float:
        steps = [logprobs(tokens[:at], seed, spread)[tokens[at]] for at in range(len(tokens))]
        return math.exp(sum(steps))

    def longer(label: tuple[int, ...]) -> list[tuple[int, ...]]:
        behind = {each[: len(label) + 1] for each in labels if each[: len(label)] == label}
        return [each for each in behind if each != label]

    return [begins(label) - sum(map(begins, longer(label))) for label in labels]


@pytest.mark.parametrize("ahead", [0, 1, 9])
@pytest.mark.parametrize("seed", range(25))
def test_scores_are_the_chain_rule_s(seed: int, ahead: int) -> None:
    draw = random.Random(seed)
    labels = [*{tuple(draw.choices(range(3), k=draw.randint(1, 4))) for _ in range(8)}]
    scores = np.exp(decided([[label] for label in labels], seed, 0.3, ahead).scores)
    assert scores == pytest.approx(expected(labels, seed, 0.3), rel=1e-4)


def test_forms_of_a_label_add_up_unless_another_label_has_them() -> None:
    forms = [[(1,), (2,)], [(3,), (2,), (1,)]]
    scores = np.exp(decided(forms).scores)
    one, two, three = np.exp(logprobs([], 0, 1.0)[[1, 2, 3]])
    assert scores == pytest.approx([one, three])
    assert two > 0


def test_what_is_unlikely_is_not_read_on() -> None:
    firsts = range(TOKENS)
    labels = [(first, second, third) for first in firsts for second in (1, 2) for third in (3, 4)]
    tree = LabelTree.of([[label] for label in labels])
    decision, reads = Decision(tree), 0
    while not decision.is_over:
        reads += 1
        decision.take([logits(decision.path, 1, 8.0)])
    assert reads < 25  # of 37 nodes
    best = expected(labels, 1, 8.0)
    scores = np.exp(decision.scores)
    assert int(scores.argmax()) == int(np.argmax(best))
    assert scores == pytest.approx(best, abs=2e-3 * max(best))


def test_ten_thousand_labels_cost_little() -> None:
    draw = random.Random(3)
    labels = [*{tuple(draw.choices(range(TOKENS), k=9)) for _ in range(10_000)}]
    decision = decided([[label] for label in labels], spread=6.0)
    assert np.isfinite(decision.scores).all()


def test_a_label_alone_is_certain_enough() -> None:
    assert np.isfinite(decided([[(1, 2, 3)]]).scores).all()
