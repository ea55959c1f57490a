"""The playground: Ctrl+Enter, history, copy, "to a cell", the bounds of its fields."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dashboard_page import Page, open_pages, until
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.types import GenerationOptions
from nbllm.notebook.dashboard.page_code import COPY, ENTRIES, SUBMIT_MARK, TO_CELL, runs
from nbllm.notebook.dashboard.playground_parts import cell_source
from nbllm.notebook.extension import load
from nbllm.notebook.flags import parser_of
from nbllm.notebook.magic_line import Flags, parse


@pytest.fixture
def open_page() -> Iterator[Callable[..., Page]]:
    with open_pages() as open_one:
        yield open_one


def ask(page: Page, prompt: str) -> None:
    """As the page does it for Ctrl+Enter."""
    sent = len(page.manager.history)
    page.input("prompt").value = prompt + SUBMIT_MARK
    until(lambda: len(page.manager.history) > sent)
    until(lambda: not page.board._playground._send.disabled)


def offered(page: Page) -> str:
    return str(page.board._playground.offer_text._shown.value)


def test_what_is_submitted_is_sent_whole(open_page: Any) -> None:
    page = open_page(text="Yes.")
    ask(page, "Is it <so>?\n")
    assert page.input("prompt").value == "Is it <so>?\n"
    (request,) = page.opener.opened[0].requests
    assert [message.text for message in request.messages] == ["Is it <so>?"]
    assert page.answer == "Yes."


def test_requests_show_the_first_words_of_their_prompt(open_page: Any) -> None:
    page = open_page(text="word " * 500, token_seconds=0.02)
    prompt = "Tell <script>me</script> \u202e " + "about it " * 100
    page.input("prompt").value = prompt + SUBMIT_MARK
    until(lambda: "Tell &lt;script&gt;me&lt;/script&gt; about it" in page.text)
    assert "<script>" not in page.text
    assert "\u202e" not in page.text
    page.press("Stop")
    until(lambda: "No request is running" in page.text)


def test_earlier_prompts_can_be_chosen_again(open_page: Any) -> None:
    page = open_page(text="Yes.")
    history = page.board._playground.history
    for prompt in ("One?", "Two\n<b>lines</b>?", "One?"):
        ask(page, prompt)
    assert history.prompts == ("One?", "Two\n<b>lines</b>?")
    assert [label for label, _ in history.widget.options[1:]] == ["One?", "Two <b>lines</b>?"]
    for _ in range(2):
        page.input("prompt").value = ""
        history.widget.value = "Two\n<b>lines</b>?"
        assert page.input("prompt").value == "Two\n<b>lines</b>?"
        assert history.widget.value == ""
    for number in range(60):
        history.add(f"prompt {number}")
    assert len(history.prompts) == 50


@pytest.mark.parametrize(("name", "low"), [("max_tokens", 1), ("temperature", 0), ("seed", 0)])
def test_fields_keep_the_bounds_of_their_options(open_page: Any, name: str, low: int) -> None:
    page = open_page()
    form = page.board._playground._options
    entry = page.input(name)
    for wrong in (f"{low - 1:g}", "one", "nan", "--1", "9" * 400 + "9" * (name != "temperature")):
        entry.value = wrong
        assert name in form.problem.value, wrong
        assert "nbllm-wrong" in entry._dom_classes
    for right in (f"{low:g}", ""):
        entry.value = right
        assert form.problem.value == ""
        assert "nbllm-wrong" not in entry._dom_classes


def test_an_answer_is_offered_as_it_was_written(open_page: Any) -> None:
    page = open_page(text="**Yes** </pre><script>alert(1)</script>")
    page.press("Copy")
    assert offered(page) == ""
    assert "no response to copy" in page.text
    ask(page, "Hi")
    page.press("Copy")
    assert "**Yes** &lt;/pre&gt;&lt;script&gt;" in offered(page)
    assert "<script>" not in offered(page)
    page.board._playground.offer_text._done.click()
    assert offered(page) == ""
    assert "Copied." in page.text


def test_a_cell_is_offered_with_the_name_that_the_magic_has(
    shell: InteractiveShell, open_page: Any
) -> None:
    page = open_page()
    load(shell, lambda: page.manager)
    page.press("To a cell")
    assert "Write a prompt first" in page.text
    page.input("prompt").value = "Hi <you>"
    page.press("To a cell")
    assert "<pre>%%llm tiny --max-tokens 300\nHi &lt;you&gt;</pre>" in offered(page)
    shell.run_line_magic("llm_config", "magic_prefix=nbllm")
    page.press("To a cell")
    assert "<pre>%%nbllm tiny" in offered(page)
    page.input("temperature").value = "hot"
    page.board._playground.offer_text.clear()
    page.press("To a cell")
    assert offered(page) == ""


SYSTEMS = ["", "Be brief.", 'It\'s "so".', "'", '"', "-x", "a\nb", "C:\\new", "--seed 3", "#no"]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("model", ["tiny", 'a model\'s "name"', "-m"])
def test_a_cell_asks_what_the_playground_asked(
    shell: InteractiveShell, model: str, system: str
) -> None:
    load(shell)
    options = GenerationOptions(max_tokens=5, temperature=0.25, seed=2**60)
    line, prompt = cell_source("llm", model, "Hi {x}\n%%no", system, options).split("\n", 1)
    magics = shell.magics_manager.registry["AskMagics"]
    args: Namespace = parse(parser_of(magics, "llm"), line.removeprefix("%%llm"), Flags())
    assert (args.name or args.model) == model
    assert (args.system or "") == " ".join(system.split())
    assert (args.max_tokens, args.temperature, args.seed) == (5, 0.25, 2**60)
    assert args.raw
    assert prompt == "Hi {x}\n%%no"


def test_scripts_are_fixed_texts_in_one_attribute() -> None:
    for script in (COPY, ENTRIES, TO_CELL):
        element = runs(script)
        assert element.count("<") == element.count(">") == 1
        assert element.count('"') == 6
