import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.notebook.views.blocks import cut_finished


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
