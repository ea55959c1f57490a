"""Two notebooks with one conversation: whatever both do to it, no answer is lost."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.conversations.saved_conversation import Conversation, Summary, Turn, merged
from nbllm.core.types import FinishReason, Message


def turn(place: str, asked_at: int = 0, *, answer: str | None = "") -> Turn:
    question = Message("user", f"{place} at {asked_at}")
    told = Message("assistant", answer or f"to {place} at {asked_at}")
    return Turn(
        place=place,
        question=question,
        answer=None if answer is None else told,
        finish_reason=None if answer is None else FinishReason.STOP,
        asked_at=f"2026-11-28T17:00:{asked_at:02}+00:00",
    )


def chat(*turns: Turn, **fields: object) -> Conversation:
    return Conversation(name="c", turns=turns, **fields)


def shown(conversation: Conversation) -> list[str]:
    return [f"{each.place}{'*' * each.is_stale}" for each in conversation.turns]


BASE = chat(turn("a", 1), turn("b", 2))


def test_new_turns_of_both_stand_in_the_order_in_which_they_were_asked() -> None:
    ours = BASE.put(turn("x", 3)).put(turn("z", 5))
    theirs = BASE.put(turn("y", 4))
    assert shown(merged(BASE, ours, theirs)) == ["a", "b", "x", "y*", "z*"]
    assert shown(merged(BASE, theirs, ours)) == ["a", "b", "x", "y*", "z*"]


def test_a_turn_stays_behind_the_one_it_was_asked_behind() -> None:
    theirs = BASE.put(turn("a#1", 9), after="a")
    assert shown(merged(BASE, BASE, theirs)) == ["a", "a#1", "b*"]
    assert shown(merged(BASE, BASE.put(turn("x", 5)), theirs)) == ["a", "a#1", "b*", "x*"]


def test_a_cell_that_one_side_ran_again_is_that_sides() -> None:
    again = turn("a", 7)
    for both in (merged(BASE, BASE.put(again), BASE), merged(BASE, BASE, BASE.put(again))):
        assert both.turns[0] == again
        assert shown(both) == ["a", "b*"]


def test_a_cell_that_both_ran_again_is_there_twice() -> None:
    ours, theirs = BASE.put(turn("a", 8)), BASE.put(turn("a", 7))
    both = merged(BASE, ours, theirs)
    assert shown(both) == ["notebook 2: a", "a", "b*"]
    assert [each.asked_at[-8:-6] for each in both.turns] == ["07", "08", "02"]
    assert shown(merged(BASE, theirs, ours)) == ["a", "notebook 2: a", "b*"]


def test_what_was_taken_away_is_gone_unless_it_was_asked_anew() -> None:
    assert shown(merged(BASE, BASE.without({"a"}), BASE)) == ["b"]
    assert shown(merged(BASE, BASE, BASE.without({"a"}))) == ["b"]
    assert shown(merged(BASE, BASE.until(0), BASE.put(turn("a", 9)))) == ["a"]
    assert shown(merged(BASE, BASE.until(0), BASE.put(turn("x", 9)))) == ["x"]


def test_an_answer_takes_the_place_of_the_question_that_waited_for_it() -> None:
    waiting = BASE.put(turn("x", 3, answer=None))
    answered = waiting.settled(turn("x", 3))
    seen = merged(BASE, BASE.put(turn("y", 4)), waiting)
    assert shown(merged(waiting, answered, seen)) == ["a", "b", "x", "y*"]
    assert merged(waiting, answered, seen).turns[2].answer is not None


def test_a_question_that_waits_is_not_kept_beside_its_answer() -> None:
    waiting = BASE.put(turn("x", 3, answer=None))
    theirs = merged(BASE, BASE.put(turn("x", 4)), waiting)
    both = merged(waiting, waiting.settled(turn("x", 3)), theirs)
    assert sorted(each.asked_at[-8:-6] for each in both.turns) == ["01", "02", "03", "04"]


def test_system_prompt_and_summary() -> None:
    ours, theirs = replace(BASE, system="ours"), replace(BASE, system="theirs")
    assert merged(BASE, BASE, theirs).system == "theirs"
    assert merged(BASE, ours, BASE).system == "ours"
    assert merged(BASE, ours, theirs).system == "ours"
    told = replace(BASE, summary=Summary("short", ("a",)))
    assert merged(BASE, BASE, told).summary == told.summary
    assert merged(BASE, told, BASE.put(turn("a", 9))).summary is None


# ---------------------------------------------------------------- any edits

PLACES = [f"p{number}" for number in range(5)]
clock = st.integers(1, 50)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([*PLACES, "new", "newer"]), clock),
        st.tuples(st.just("remove"), st.sampled_from(PLACES), clock),
        st.tuples(st.just("insert"), st.sampled_from(["mine", "inner"]), clock),
    ),
    max_size=5,
)
START = chat(*(turn(place) for place in PLACES))


def edited(side: str, steps: list[tuple[str, str, int]]) -> Conversation:
    conversation = START
    for kind, place, at in steps:
        asked = replace(turn(place, at), model=side)
        if kind == "remove":
            conversation = conversation.without({place})
        else:
            conversation = conversation.put(asked, after="p1" if kind == "insert" else None)
    return conversation


def answers(conversation: Conversation) -> set[tuple[str, str]]:
    return {(each.model, each.question.text) for each in conversation.turns}


@given(edits, edits)
def test_no_answer_is_lost_and_no_place_stands_twice(ours, theirs) -> None:
    left, right = edited("ours", ours), edited("theirs", theirs)
    both = merged(START, left, right)
    new = (answers(left) | answers(right)) - answers(START)
    untouched = answers(START) & answers(left) & answers(right)
    assert answers(both) == new | untouched
    places = [each.place for each in both.turns]
    assert len(places) == len(set(places))
    assert answers(merged(START, right, left)) == answers(both)


@given(edits)
def test_what_one_side_did_is_taken_as_it_is(steps) -> None:
    side = edited("ours", steps)
    assert merged(START, side, START) == side
    assert merged(START, side, side) == side
    assert answers(merged(START, START, side)) == answers(side)
    assert [each.place for each in merged(START, START, side).turns] == [
        each.place for each in side.turns
    ]


@given(edits, edits, edits)
def test_notebooks_that_take_turns_end_with_the_same(one, two, three) -> None:
    """Each saves over what it last saw, as two kernels with one file do."""
    first = edited("one", one)
    second = merged(START, edited("two", two), first)
    again = merged(first, edited_on(first, "one", three), second)
    assert merged(second, second, again) == again


def edited_on(start: Conversation, side: str, steps: list[tuple[str, str, int]]) -> Conversation:
    conversation = start
    for kind, place, at in steps:
        if kind == "put":
            conversation = conversation.put(replace(turn(place, at), model=side))
    return conversation
