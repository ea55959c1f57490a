"""Frames between the processes: everything arrives as it is, or says why it cannot be sent."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.local.protocol import Frame, UnsendableError, decode, encode
from nbllm.local.signs import Patience, Signs
from nbllm.local.stages import Stage, overdue_seconds

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(ANY_TEXT, VALUES, max_size=4))
def test_every_frame_arrives_as_it_was_sent(values: dict[str, Any]) -> None:
    frame: Frame = {**values, "op": "generate"}
    line = encode(frame)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    arrived = decode(line)
    # Two halves of one character arrive as the character.
    assert repr(arrived).encode("utf-16", "surrogatepass") == repr(frame).encode(
        "utf-16", "surrogatepass"
    )


def circular() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "make",
    [circular, deep, lambda: 10**5000, lambda: {1}, lambda: b"x", datetime.date.today, object],
)
def test_what_json_cannot_hold_is_told(make: Any) -> None:
    with pytest.raises(UnsendableError):
        encode({"op": "generate", "value": make()})


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{", b"[]", b"{}", b'{"op":1}', b"\xff", b"[" * 100_000, b"1" * 5000, b"null"],
    ids=len,
)
def test_what_is_no_frame_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode(line)


# -------------------------------------------------------------------------------- signs of life


def test_a_stage_is_late_only_at_one_thing_and_beyond_what_that_may_take() -> None:
    stage = Stage()
    late = [stage.overdue_after(1.0) for _ in range(3)]
    stage.begin(2.0)
    late += [stage.overdue_after(1.0) for _ in range(5)]
    assert late == [0, 0, 0, 0, 0, 0, 1, 2]
    stage.begin()
    assert stage.overdue_after(1.0) == 0
    assert overdue_seconds({"a": stage, "b": Stage()}, 1.0) == {"a": 1.0}
    stage.rest()
    assert [stage.overdue_after(1.0) for _ in range(9)] == [0] * 9


def test_patience_ends_with_silence_or_with_what_hangs_in_the_stage_that_is_waited_for() -> None:
    signs = Signs()
    patience = Patience(signs, 4.0, ("intake",))
    assert [patience.is_over(1.0) for _ in range(5)] == [False, False, False, True, True]
    signs.note({"op": "beat", "overdue": {"engine": 100.0}})
    assert not patience.is_over(1.0)
    signs.note({"op": "beat", "overdue": {"intake": 14.0}})
    assert not patience.is_over(1.0), "others may keep it for some seconds"
    signs.note({"op": "beat", "overdue": {"intake": 15.0}})
    assert patience.is_over(1.0)
    signs.note({"op": "beat", "overdue": {}})
    assert not patience.is_over(1.0)


def test_a_notebook_that_was_stopped_itself_does_not_blame_the_worker() -> None:
    patience = Patience(Signs(), None, ())
    assert not any(patience.is_over(patience.look_seconds) for _ in range(11))
    assert patience.is_over(patience.look_seconds)
