"""An answer in a notebook while it grows: what is sent, at which cost, and what is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.notebook.views.bundles import Bundle, Ending
from nbllm.notebook.views.markdown_view import (
    BackgroundView,
    GrowingText,
    MarkdownView,
    cut_finished,
)


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("", ""),
        ("One paragraph that goes on", ""),
        ("First.\n\nSecond", "First.\n\n"),
        ("First.\n\nSecond.\n\nThird", "First.\n\nSecond.\n\n"),
        ("First.\n\n", ""),
        ("First.\r\n\r\nSecond", "First.\r\n\r\n"),
        ("# Title\n\n- one\n\n  belongs to one\n- two", "# Title\n\n"),
        ("- one\n\n- two", "- one\n\n"),
        ("Text.\n\n```python\na = 1\n\nb = 2", "Text.\n\n"),
        ("```python\na = 1\n\nb = 2\n```\n\nText", "```python\na = 1\n\nb = 2\n```\n\n"),
        ("~~~\n```\n\n~~~\n\nText", "~~~\n```\n\n~~~\n\n"),
        ("````\n```\n\n````\n\nText", "````\n```\n\n````\n\n"),
        ("- item\n  ```\n  code\n\n  code", ""),
        ("`` ` ``\n\ntext", "`` ` ``\n\n"),
        ("```not`a fence\n\ntext", "```not`a fence\n\n"),
    ],
)
def test_cuts_after_the_last_blank_line_outside_code(text: str, finished: str) -> None:
    assert cut_finished(text) == (finished, text[len(finished) :])


@pytest.mark.parametrize(
    ("text", "finished", "rest"),
    [
        ("```python\na = 1\n\nb = 2", "```python\na = 1\n\n```\n", "```python\nb = 2"),
        ("~~~~ js\na\nb\n", "~~~~ js\na\nb\n~~~~\n", "~~~~ js\n"),
    ],
)
def test_a_code_block_without_end_is_cut_between_lines(text: str, finished: str, rest: str) -> None:
    assert cut_finished(text) == (finished, rest)


HEAD = "| a | b |\n|---|:-:|\n"


@pytest.mark.parametrize(
    ("text", "finished", "rest"),
    [
        (f"{HEAD}| 1 | 2 |\n| 3 | 4 |\n| 5", f"{HEAD}| 1 | 2 |\n", f"{HEAD}| 3 | 4 |\n| 5"),
        (f"{HEAD}| 1 | 2 |\n| 3 | 4 |\n", f"{HEAD}| 1 | 2 |\n", f"{HEAD}| 3 | 4 |\n"),
        (f"{HEAD}| 1 | 2 |\n", "", f"{HEAD}| 1 | 2 |\n"),
        (f"{HEAD}| 1 | 2 |\n# No row\n| 3 |\n", "", f"{HEAD}| 1 | 2 |\n# No row\n| 3 |\n"),
        ("| a |\n|---|---|\n| 1 |\n| 2 |\n", "", "| a |\n|---|---|\n| 1 |\n| 2 |\n"),
    ],
)
def test_a_table_without_end_is_cut_between_rows(text: str, finished: str, rest: str) -> None:
    assert cut_finished(text) == (finished, rest)


@pytest.mark.parametrize("text", ["```python", "```python\n", "```python\na = 1"])
def test_a_code_block_of_less_than_a_line_is_not_cut(text: str) -> None:
    assert cut_finished(text) == ("", text)


lines = st.sampled_from(
    ["text", "", "  ", "```", "```python", "~~~", "- item", "  more", "    code", "> ```", "`a`"]
)


@given(st.lists(lines, max_size=25).map("\n".join))
def test_nothing_is_lost_and_progress_is_made(text: str) -> None:
    finished, rest = cut_finished(text)
    if finished + rest != text:  # a code block was closed and opened again
        fence, opening = finished.splitlines(keepends=True)[-1], rest.splitlines(keepends=True)[0]
        assert finished.removesuffix(fence) + rest.removeprefix(opening) == text
        assert text.startswith(opening)
    if finished:
        assert len(rest) < len(text)


PARAGRAPH = "Some words of a paragraph.\n\n"


def test_what_is_finished_is_shown_once_and_the_parts_are_the_whole() -> None:
    now = [0.0]
    text = GrowingText(clock=lambda: now[0])
    finished, last = "", ""
    for _ in range(500):
        now[0] += 1.0
        update = text.add(PARAGRAPH)
        assert update is not None
        if update.finished is not None:
            finished += update.finished.data["text/plain"]
        last = update.growing.data["text/plain"]
        assert len(last) < 2_000
    assert finished + last == PARAGRAPH * 500


def test_a_text_in_one_place_is_not_cut() -> None:
    now = [0.0]
    text = GrowingText(is_cut=False, clock=lambda: now[0])
    for _ in range(100):
        now[0] += 10.0
        update = text.add(PARAGRAPH)
        assert update is not None
        assert update.finished is None
    assert text.tail == PARAGRAPH * 100


def test_nothing_new_is_no_update_and_what_came_too_early_comes_with_the_next() -> None:
    now = [0.0]
    text = GrowingText(least_seconds=1.0, clock=lambda: now[0])
    assert text.add("") is None
    assert text.add("a") is not None
    assert text.add("b") is None
    now[0] += 1.1
    update = text.add("")
    assert update is not None
    assert update.growing.data["text/plain"] == "ab"


LONG_PARAGRAPH = "Some words of an answer that goes on and on, with a **bold** one in it. " * 6


CODE = "```python\n" + "value = compute(value)\n" * 200 + "```\n\n"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(front_end, clock: Clock) -> MarkdownView:
    return MarkdownView(front_end, is_alone=True, clock=clock)


def stream(view, clock: Clock, text: str, *, characters_per_second: int, ticks: int = 10) -> None:
    """Add ``text`` at the given pace, looked at so many times a second."""
    step = characters_per_second // ticks
    for start in range(0, len(text), step):
        view.add(text[start : start + step])
        clock.now += 1 / ticks


def test_the_answer_grows_on_the_screen_and_ends_as_one_output(front_end, view, clock) -> None:
    view.add("Hello")
    assert front_end.shown == ["Hello"]
    clock.now += 1
    view.add(" *you*")
    assert front_end.shown == ["Hello *you*"]
    view.finish(Ending("Hello *you*.", "tiny · CPU"))
    assert front_end.shown == ["Hello *you*.", "tiny · CPU"]
    assert front_end.outputs[0][1] == {
        "text/html": "<p>Hello <em>you</em>.</p>",
        "text/plain": "Hello *you*.",
    }


def test_text_that_came_too_soon_is_shown_by_a_later_look(front_end, view, clock) -> None:
    view.add("a" * 1000)
    view.add("b")
    assert front_end.shown == ["a" * 1000]
    clock.now += 1
    view.add("")
    assert front_end.shown == ["a" * 1000 + "b"]
    sent = front_end.messages
    clock.now += 1
    view.add("")
    assert front_end.messages == sent, "nothing new, so nothing is sent"


@pytest.mark.parametrize(
    "text",
    [
        f"{LONG_PARAGRAPH}\n\n" * 80,
        CODE * 8,
        LONG_PARAGRAPH * 80,
        f"- {LONG_PARAGRAPH}\n" * 80,
        "| city | country |\n|---|---|\n" + "| Rome | Italy |\n" * 2_000,
        "```python\n" + "x = f(1, 'a')  # words\n" * 1_500,
    ],
    ids=["paragraphs", "code", "one paragraph", "one list", "one table", "one block of code"],
)
@pytest.mark.parametrize("is_alone", [True, False])
def test_cost_is_linear_whatever_the_text_is(front_end, clock, text: str, is_alone: bool) -> None:
    """8,000 tokens at 400 a second."""
    view = MarkdownView(front_end, is_alone=is_alone, clock=clock)
    text = text[:36_000]
    began = clock.now
    stream(view, clock, text, characters_per_second=1_800)
    view.finish(Ending(text, "done"))
    seconds = clock.now - began
    assert front_end.messages <= 12 * seconds
    assert front_end.bytes_sent / 1024 <= 600
    assert front_end.shown == [text, "done"]


def test_finished_blocks_are_not_sent_again(front_end, view, clock) -> None:
    stream(view, clock, f"{LONG_PARAGRAPH}\n\n" * 20, characters_per_second=500)
    clock.now += 1
    view.add("")
    first_id = front_end.outputs[0][0]
    assert len(front_end.outputs) >= 4
    assert "".join(front_end.shown) == f"{LONG_PARAGRAPH}\n\n" * 20
    before = front_end.outputs[0]
    clock.now += 1
    view.add("more")
    assert front_end.outputs[0] == before
    assert first_id not in {known for known, _ in front_end.outputs[1:]}


def test_where_the_cell_shows_other_things_they_stay(front_end, clock) -> None:
    view = MarkdownView(front_end, is_alone=False, clock=clock)
    front_end.publish({"text/plain": "printed before"}, {})
    stream(view, clock, f"{LONG_PARAGRAPH}\n\n" * 20, characters_per_second=500)
    view.finish(Ending("whole", "status"))
    assert front_end.shown == ["printed before", "whole", "status"]


def test_a_note_gives_way_to_the_answer(front_end, view) -> None:
    view.note("prefill: 40%")
    view.note("prefill: 80%")
    assert front_end.shown == ["prefill: 80%"]
    view.add("Text")
    view.note("late")
    assert front_end.shown == ["Text"]


def test_a_note_that_says_the_same_is_not_sent_again(front_end, view) -> None:
    view.note("thinking")
    view.note("thinking")
    assert front_end.messages == 1


def test_a_kept_line_stays_above_the_answer(front_end, view, clock) -> None:
    view.note("Loading tiny … 40%")
    view.keep("tiny ready")
    view.note("prefill")
    stream(view, clock, f"{LONG_PARAGRAPH}\n\n" * 20, characters_per_second=500)
    view.finish(Ending("Text", "status"))
    assert front_end.shown == ["tiny ready", "Text", "status"]


@pytest.mark.parametrize("is_alone", [True, False])
def test_without_any_text_the_status_takes_the_place(front_end, clock, is_alone: bool) -> None:
    view = MarkdownView(front_end, is_alone=is_alone, clock=clock)
    view.note("prefill")
    view.finish(Ending("", "■ stopped"))
    assert front_end.shown == ["■ stopped"]


def test_a_dropped_note_leaves_nothing_in_a_cell_of_its_own(front_end, clock) -> None:
    view = MarkdownView(front_end, is_alone=True, clock=clock)
    view.note("Loading")
    view.drop_note("Loaded.")
    front_end.publish({"text/plain": "Out"}, {})
    assert front_end.shown == ["Out"]


def test_a_dropped_note_is_replaced_in_a_cell_with_more(front_end, clock) -> None:
    view = MarkdownView(front_end, is_alone=False, clock=clock)
    front_end.publish({"text/plain": "before"}, {})
    view.note("Loading")
    view.drop_note("Loaded.")
    assert front_end.shown == ["before", "Loaded."]


def test_a_load_without_a_note_shows_nothing(front_end, view) -> None:
    view.drop_note("Loaded.")
    assert front_end.messages == 0


def test_model_text_is_never_html(front_end, view, clock) -> None:
    evil = "<script>alert(1)</script> ![x](http://example.org/x.png)\n\n" * 100
    stream(view, clock, evil, characters_per_second=1000)
    view.finish(Ending(evil, "<b>status</b>"))
    answer, status = (data for _, data in front_end.outputs)
    assert set(answer) == {"text/html", "text/plain"}
    assert "<script" not in answer["text/html"]
    assert "<img" not in answer["text/html"]
    assert '<a href="http://example.org/x.png"' in answer["text/html"]
    assert "&lt;b&gt;status" in status["text/html"]


def test_reasoning_is_folded_above_the_answer_and_fully_escaped(front_end, view) -> None:
    view.add("Text")
    evil = "</pre><script>alert(1)</script> & **bold** $x$"
    view.finish(Ending("Text", "status", reasoning=evil))
    folded, answer, status = (data for _, data in front_end.outputs)
    assert folded["text/html"].startswith("<details")
    assert "&lt;script&gt;" in folded["text/html"]
    assert "<script" not in folded["text/html"]
    assert folded["text/html"].count("</pre>") == 1
    assert evil in folded["text/plain"]
    assert answer["text/html"] == "<p>Text</p>"
    assert status["text/plain"] == "status"


def test_without_a_place_above_the_reasoning_is_folded_beside_the_status(front_end, clock) -> None:
    view = MarkdownView(front_end, is_alone=False, clock=clock)
    view.finish(Ending("Text", "status", reasoning="hm"))
    assert len(front_end.outputs) == 2
    assert "<details" in front_end.outputs[1][1]["text/html"]


def test_without_a_status_line_there_is_one_output(front_end, view) -> None:
    view.finish(Ending("Text"))
    assert front_end.shown == ["Text"]


BUTTON = Bundle({"text/plain": "[Stop]"})


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_control_stays_below_the_text_and_gives_way_to_the_status(
    front_end, clock, is_alone: bool
) -> None:
    view = MarkdownView(front_end, is_alone=is_alone, clock=clock)
    view.add("First. ")
    view.control(BUTTON)
    stream(view, clock, f"{LONG_PARAGRAPH}\n\n" * 12, characters_per_second=500)
    assert front_end.shown.index("[Stop]") == len(front_end.shown) - 1
    assert front_end.shown.count("[Stop]") == 1
    view.finish(Ending("whole", "status"))
    assert front_end.shown == ["whole", "status"]


def test_a_control_before_any_text(front_end, view, clock) -> None:
    view.note("Loading")
    view.control(BUTTON)
    view.keep("tiny ready")
    view.add("Text")
    assert front_end.shown == ["tiny ready", "Text", "[Stop]"]
    view.finish(Ending("Text.", "status"))
    assert front_end.shown == ["tiny ready", "Text.", "status"]


def test_a_dropped_load_takes_its_control_along(front_end, view) -> None:
    view.note("Loading")
    view.control(BUTTON)
    view.drop_note("")
    front_end.publish({"text/plain": "error"}, {})
    assert front_end.shown == ["error"]


def test_a_background_view_only_updates_what_it_put_at_first(front_end) -> None:
    view = BackgroundView(front_end)
    view.note("Job 1 has started.")
    view.control(BUTTON)
    places = [place for place, _ in front_end.outputs]
    view.keep("tiny ready")
    view.add("Text")
    view.finish(Ending("Text.", "status", reasoning="hm"))
    assert [place for place, _ in front_end.outputs] == places
    assert front_end.shown == ["Text.", "status"]
    view.republish()
    assert front_end.shown == ["Text.", "status"] * 2
