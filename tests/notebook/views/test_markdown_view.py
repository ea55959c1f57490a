import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.notebook.views.markdown_view import GrowingText, cut_finished


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
