"""The dashboard's page of model files: listed by source, downloaded, quantized, tuned, deleted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from dashboard_page import Page, open_pages, until, walk
from fake_hub import FakeHub, fake_hub, made_model
from tiny_models import write_tiny

from nbllm.notebook.dashboard.job_bar import JobBar
from nbllm.notebook.dashboard.page_code import SUBMIT_MARK
from nbllm.notebook.dashboard.widgets import Choice
from nbllm.notebook.loop import LoopThread

MODEL = made_model()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    pytest.importorskip("huggingface_hub", reason="downloads need the extra hub")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add("org/tiny", **{"tiny.Q8_0.gguf": MODEL, "tiny.Q4_0.gguf": MODEL[:-9]})
        yield hub


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    (tmp_path / "here").mkdir()
    write_tiny("llama", tmp_path).rename(tmp_path / "here" / "small-F16.gguf")
    with open_pages(tmp_path / "here") as open_one:

        def open_files(**fake: Any) -> Page:
            page = open_one(**fake)
            page.press("Model files")
            until(lambda: files(page))
            return page

        yield open_files


def files(page: Page) -> list[str]:
    return list(page.board._page.files._rows)


def shown(page: Page) -> str:
    return "\n".join(w.value for w in walk(page.board._page.widget, ipywidgets.HTML))


def press(page: Page, words: str, index: int = 0) -> None:
    def buttons() -> list[Any]:
        found = walk(page.board._page.widget, ipywidgets.Button)
        return [b for b in found if b.description == words and "nbllm-hidden" not in b._dom_classes]

    until(lambda: len(buttons()) > index)
    buttons()[index].click()


def test_files_stand_by_their_source_and_pages_are_turned(open_page: Any) -> None:
    page = open_page()
    until(lambda: "small-F16" in files(page))
    text = shown(page)
    assert text.index("Model configs") < text.index("Current folder") < text.index("small-F16")
    assert "nbllm-hidden" in page.board._overview._dom_classes
    panel = page.board._page.files
    panel.source.value = "found"
    until(lambda: files(page) == ["small-F16"])
    panel.filter.value = "no <such>"
    until(lambda: not files(page))
    assert "No model matches." in shown(page)
    page.press("Overview")
    assert "nbllm-hidden" in page.board._page.widget._dom_classes
    assert "nbllm-hidden" not in page.board._overview._dom_classes


def test_a_model_is_looked_up_downloaded_and_deleted(
    open_page: Any, hub: FakeHub, tmp_path: Path
) -> None:
    page = open_page()
    form = page.board._page.pull
    form.name.value = f"org/tiny{SUBMIT_MARK}"
    until(lambda: "Q8_0 ✓" in shown(page))
    assert [label for label, _ in form.quant.options] == ["the best that fits", "Q4_0", "Q8_0"]
    form.quant.value = "tiny.Q4_0.gguf"
    press(page, "Download")
    until(lambda: "is here as tiny.Q4_0" in shown(page))
    until(lambda: "tiny.Q4_0" in files(page))
    assert len(list(tmp_path.rglob("tiny.Q4_0.gguf"))) == 1
    press(page, "Delete")
    until(lambda: "Delete tiny.Q4_0 (1 file, frees 3 MiB)?" in shown(page))
    press(page, "Keep it")
    assert "frees" not in shown(page)
    press(page, "Delete")
    press(page, "Delete it")
    until(lambda: "tiny.Q4_0" not in files(page))
    assert not list(tmp_path.rglob("tiny.Q4_0.gguf"))
    page.press("Overview")
    until(lambda: "Deleted tiny.Q4_0; 3 MiB freed" in page.text)


def test_the_last_choice_stands_however_often_the_options_are_renewed() -> None:
    choice = Choice("Model", options=["a", "b", "c"])
    is_over = threading.Event()

    def renew() -> None:
        count = 0
        while not is_over.is_set():
            count += 1
            choice.offer(["a", "b", "c", f"d{count % 7}"])

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        for turn in range(300):
            chosen = "abc"[turn % 3]
            if turn % 2:
                choice.value = chosen
            else:
                choice.set_state({"index": "abc".index(chosen)})
            assert choice.value == chosen
    finally:
        is_over.set()
        thread.join()
    choice.close()


@pytest.fixture
def bar() -> Iterator[tuple[JobBar, list[str]]]:
    loop, lines = LoopThread(), list[str]()
    yield JobBar(loop, lines.append), lines
    loop.close()


async def _said(words: str) -> str:
    return words


async def _never() -> str:
    await asyncio.Event().wait()
    return "never"


def test_what_is_started_next_takes_the_place_of_a_look_up(
    bar: tuple[JobBar, list[str]],
) -> None:
    jobs, lines = bar
    jobs.start(_never, "Looking up a …", makes_way=True)
    jobs.start(lambda: _said("b is here"), "Looking up b …", makes_way=True)
    until(lambda: lines)
    assert lines == ["b is here"]
    assert "b is here" in jobs._shown.value
    assert not jobs.is_running


def test_beside_a_job_another_one_is_refused_and_the_first_can_still_be_stopped(
    bar: tuple[JobBar, list[str]],
) -> None:
    jobs, lines = bar
    jobs.start(_never, "Downloading a …")
    jobs.start(lambda: _said("b"), "Downloading b …")
    jobs.say("Name a repository")
    assert "Downloading a" in jobs._shown.value
    assert "Name a repository" in jobs._shown.value
    assert "nbllm-hidden" not in jobs._stop._dom_classes
    jobs.stop()
    until(lambda: lines)
    assert lines == ["■ stopped: Downloading a …"]


def test_the_end_of_a_job_can_start_the_next_one() -> None:
    loop, lines = LoopThread(), list[str]()

    def on_end(line: str) -> None:
        assert not jobs.is_running
        lines.append(line)

    jobs = JobBar(loop, on_end)
    for words in ("one", "two", "three"):
        jobs.start(partial(_said, words), words)
        until(lambda: words in lines)  # noqa: B023 - read within the turn
    loop.close()
    assert lines == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "Name a repository"),
        ("org/<b>nothing</b>", "&lt;b&gt;"),
        ("org/none", "org/none: "),
        ("https://127.0.0.1:1/x.gguf", "127.0.0.1"),
    ],
)
def test_what_cannot_be_downloaded_is_said(
    open_page: Any, hub: FakeHub, name: str, problem: str
) -> None:
    page = open_page()
    page.board._page.pull.name.value = name
    press(page, "Download")
    until(lambda: "nbllm-problem" in shown(page))
    assert problem in shown(page)
    assert "<b>nothing" not in shown(page)


def test_a_download_can_be_stopped_and_goes_on(
    open_page: Any, hub: FakeHub, tmp_path: Path
) -> None:
    hub.add("org/large", **{"large.Q8_0.gguf": made_model(6 * 2**20, seed=1)})
    hub.rate = 2**20
    page = open_page()
    page.board._page.pull.name.value = "org/large"
    press(page, "Download")
    until(lambda: "nbllm-bar" in shown(page))
    press(page, "Stop")
    until(lambda: "■ stopped" in shown(page))
    hub.rate = 0
    press(page, "Download")
    until(lambda: "is here as large.Q8_0" in shown(page))


def test_a_model_is_quantized_beside_its_file(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    until(lambda: "small-F16" in files(page))
    page.board._page.files.source.value = "found"
    until(lambda: files(page) == ["small-F16"])
    form = page.board._page.remake
    press(page, "Quantize or tune")
    assert form.model.value == "small-F16"
    press(page, "Sizes")
    until(lambda: " types; the others need an importance matrix" in shown(page))
    assert all("KiB" in label or "MiB" in label for label, _ in form.type.options)
    form.type.value = "Q8_0"
    press(page, "Quantize")
    until(lambda: "small.Q8_0" in files(page))
    assert (tmp_path / "here" / "small.Q8_0.gguf").is_file()
    press(page, "Quantize")
    until(lambda: "nbllm-problem" in shown(page))
    press(page, "Undo tuning")
    until(lambda: "was not tuned" in shown(page))
    form.changed.value = "much"
    press(page, "Tune")
    until(lambda: "max_changed must be a share" in shown(page))
