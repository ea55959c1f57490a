from __future__ import annotations

import copy
import json
import pickle

from nbllm.core.types import TokenCount


def test_a_count_is_a_number() -> None:
    count, about = TokenCount(5), TokenCount(7, exact=False)
    assert count == 5 < about
    assert count + about == 12
    assert sum([count, about], 1) == 13
    assert sorted([about, count]) == [5, 7]
    assert json.dumps([count, about]) == "[5, 7]"
    assert list(range(10))[count] == 5
    assert f"{TokenCount(12_345):,}" == "12,345"
    assert {count: 1}[5] == 1


def test_an_estimate_says_so() -> None:
    about = TokenCount(7, exact=False)
    assert (str(TokenCount(5)), str(about)) == ("5", "about 7 (an estimate)")
    assert repr(about) == "TokenCount(tokens=7, exact=False)"
    for other in (pickle.loads(pickle.dumps(about)), copy.copy(about), copy.deepcopy(about)):
        assert (other, other.exact, other.tokens) == (7, False, 7)
