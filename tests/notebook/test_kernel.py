"""The magics in a real kernel: streaming, stopping, failing, and what is saved."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

SETUP = """
%load_ext nbllm
from nbllm.core.errors import EngineCrashedError
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

def use(**arguments):
    global opener, manager
    opener = FakeOpener(**arguments)
    manager = ModelManager([fake_info("tiny")], open_model=opener)
    magics.load(get_ipython(), lambda: manager)
"""
BLOCKS = "'Words that make a paragraph.\\n\\n' * 200"


@pytest.fixture(scope="module")
def fake_kernel(kernel):
    kernel.ok(SETUP)
    return kernel


def test_an_answer_arrives_in_pieces_and_ends_whole(fake_kernel) -> None:
    fake_kernel.ok(f"use(text={BLOCKS}, token_seconds=0.001)")
    ran = fake_kernel.ok("%%llm tiny\nHi")
    live, whole = ran.answers[:-1], ran.answers[-1]
    assert whole == ("Words that make a paragraph.\n\n" * 200).rstrip()
    assert len(live) >= 5
    assert max(map(len, live)) < len(whole)
    assert len(ran.contents("clear_output")) == 1
    seconds = ran.messages[-1][0]
    assert len(live) <= 12 * seconds + 2


def test_the_first_text_does_not_wait_for_the_next_look(fake_kernel) -> None:
    fake_kernel.ok("use(text='One two three four', token_seconds=0.3)\n%llm_load tiny")
    fake_kernel.ok("from nbllm.notebook.asking import live_answer\nlive_answer.TICK_SECONDS = 30")
    ran = fake_kernel.ok("%%llm\nHi")
    fake_kernel.ok("live_answer.TICK_SECONDS = 0.1")
    assert ran.answers == ["One", "One two three four"]


def test_reading_the_prompt_shows_progress(fake_kernel) -> None:
    fake_kernel.ok("use(prompt_seconds=1.6)\n%llm_load tiny")
    ran = fake_kernel.ok("%%llm\n" + "word " * 400)
    notes = [c["data"]["text/plain"] for c in ran.contents("display_data", "update_display_data")]
    assert "prefill: 200 of 400 tokens (50%)" in notes
    assert not any(note.startswith("reading") for note in notes[-2:])


def test_a_slow_load_shows_progress_and_leaves_the_ready_line(fake_kernel) -> None:
    fake_kernel.ok("use(load_seconds=1)")
    ran = fake_kernel.ok("%llm_load tiny")
    notes = [c["data"]["text/plain"] for c in ran.contents("display_data", "update_display_data")]
    assert 2 <= len(notes) <= 10
    assert all(note.startswith("Loading tiny … ") for note in notes)
    assert len(ran.contents("clear_output")) == 1
    assert ran.result.startswith("tiny ready on CPU in 1.")


def test_a_slow_load_that_fails_leaves_the_error_alone(fake_kernel) -> None:
    fake_kernel.ok("from nbllm.core.errors import ModelLoadError")
    fake_kernel.ok("use(load_seconds=0.6, load_error=ModelLoadError('tiny', 'it is broken'))")
    ran = fake_kernel.run("%llm_load tiny")
    assert ran.contents("display_data"), "its progress was shown"
    assert len(ran.contents("clear_output")) == 1
    assert "it is broken" in str(ran.contents("error"))


@pytest.mark.parametrize(
    "cell",
    [
        "%%llm -o kept\nHi",
        "%llm -o kept Hi",
        "import asyncio\nawait asyncio.sleep(0.01)\n%llm -o kept Hi",
        "for i in range(3):\n    get_ipython().run_cell_magic('llm', '-o kept', 'Hi')",
    ],
    ids=["cell", "line", "in a cell that awaits", "from Python"],
)
def test_an_interrupt_stops_at_once_and_keeps_what_came(fake_kernel, cell: str) -> None:
    fake_kernel.ok(f"use(text={BLOCKS}, token_seconds=0.01)\n%llm_load tiny")
    ran = fake_kernel.run(cell, interrupt_when_shown="a paragraph")
    assert ran.interrupt_to_idle_seconds < 0.1  # 5 ms on an idle machine
    assert ran.reply["status"] == "error"
    assert ran.reply["ename"] == "Stopped"
    assert ran.reply["traceback"] == ["Stopped. The text so far is in _llm."]
    assert not ran.contents("error"), "the reader wanted it, so that nothing is red"
    assert ran.answers[-1].startswith("Words that make")
    status, words = (c["data"]["text/plain"] for c in ran.contents("display_data")[-2:])
    assert status.startswith("■ stopped · tiny")
    assert words == "Stopped. The text so far is in _llm."
    kept = fake_kernel.ok("kept is _llm, str(_llm.finish_reason), len(_llm.text) > 20")
    assert kept.result == "(True, 'cancelled', True)"
    assert fake_kernel.ok("opener.opened[0].cancelled").result == "1"


def test_a_stop_before_the_first_text_says_so(fake_kernel) -> None:
    fake_kernel.ok("use(prompt_seconds=8)\n%llm_load tiny")
    ran = fake_kernel.run("%%llm\n" + "word " * 400, interrupt_when_shown="prefill")
    assert ran.reply["traceback"] == ["Stopped before the answer began."]


def test_an_interrupted_load_can_be_tried_again(fake_kernel) -> None:
    fake_kernel.ok("use(load_seconds=2)")
    ran = fake_kernel.run("%llm_load tiny", interrupt_when_shown="Loading")
    assert ran.interrupt_to_idle_seconds < 0.1
    assert ran.reply["traceback"] == ["Loading tiny was stopped."]
    assert not ran.contents("error")
    fake_kernel.ok("opener._load_seconds = 0\n%llm_load tiny")


def test_the_next_cell_may_await_the_same_model(fake_kernel) -> None:
    fake_kernel.ok("use(text='Hello you.')")
    fake_kernel.ok("%%llm tiny\nHi")
    ran = fake_kernel.ok("(await manager.get_model('tiny').generate('Hi')).text == _llm.text")
    assert ran.result == "True"


def test_a_failure_is_one_line_and_the_text_stays(fake_kernel) -> None:
    fake_kernel.ok(
        "use(text='One two three', fail_after=2,"
        " error=EngineCrashedError('tiny', 'its process was killed'))"
    )
    ran = fake_kernel.run("%%llm tiny\nHi")
    assert ran.reply["status"] == "error"
    (error,) = ran.contents("error")
    assert error["ename"] == "EngineCrashedError"
    (line,) = error["traceback"]
    assert line.endswith(": tiny: its process was killed")
    assert "\n" not in line
    assert ran.answers[-1] == "One two"
    assert fake_kernel.ok("_llm.text").result == "'One two'"


def test_two_answers_in_one_cell_both_stay(fake_kernel) -> None:
    fake_kernel.ok("use(text='Hello you.')\n%llm_load tiny")
    ran = fake_kernel.ok("print('before')\n%llm One?\n%llm Two?")
    assert not ran.contents("clear_output")
    assert ran.answers.count("Hello you.") >= 2


def test_captured_answers_are_whole(fake_kernel) -> None:
    fake_kernel.ok("use(text='Hello you, whoever.', token_seconds=0.1)\n%llm_load tiny")
    fake_kernel.ok("%%capture captured\n%llm Hi?")
    shown = fake_kernel.ok("[o.data['text/plain'] for o in captured.outputs][:-1]").result
    assert shown == "['Hello you, whoever.']"


def test_timing_wraps_the_cell_magic(fake_kernel) -> None:
    fake_kernel.ok("use(text='Hello you.')\n%llm_load tiny")
    ran = fake_kernel.ok("%%time\n%llm Hi?")
    assert ran.answers[-1] == "Hello you."
    assert "Wall time" in ran.contents("stream")[0]["text"]


def run_all(*cells: str) -> tuple[nbformat.NotebookNode, CellExecutionError | None]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    try:
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    except CellExecutionError as error:
        return notebook, error
    return notebook, None


def test_a_saved_notebook_holds_the_answer_once() -> None:
    notebook, error = run_all(
        f"{SETUP}use(text={BLOCKS}, token_seconds=0.001)",
        "%%llm tiny --max-tokens 5000\nHi",
        "%llm_models",
    )
    assert error is None
    ready, answer, status = notebook.cells[1].outputs
    assert ready.data["text/plain"].startswith("tiny ready")
    assert set(answer.data) == {"text/html", "text/plain"}
    assert answer.data["text/plain"] == "Words that make a paragraph.\n\n" * 200
    assert status.data["text/plain"].startswith("tiny · CPU · ")
    assert "file size (MiB)" in notebook.cells[2].outputs[0].data["text/html"]
    nbformat.validate(notebook)


def test_a_saved_notebook_holds_the_recipe_and_folds_the_reasoning() -> None:
    notebook, error = run_all(
        f"{SETUP}use(text='Hello you.', reasoning='First <b>I</b> think.')\n%llm_load tiny",
        "%%llm --seed 3 --temperature 0\nHi",
    )
    assert error is None
    reasoning, answer, _ = notebook.cells[1].outputs
    assert "<details" in reasoning.data["text/html"]
    recipe = answer.metadata["nbllm"]
    assert recipe["options"] == {"seed": 3, "temperature": 0.0, "max_tokens": 1000}
    assert recipe["usage"]["completion_tokens"] == 2
    assert "widgets" not in notebook.metadata
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "<p>Hello you.</p>" in page
    assert "First &lt;b&gt;I&lt;/b&gt; think." in page


def test_a_failure_stops_run_all_and_is_saved_with_the_text() -> None:
    notebook, error = run_all(
        f"{SETUP}use(text='One two', fail_after=1, error=EngineCrashedError('tiny', 'it died'))",
        "%%llm tiny\nHi",
        "print('never')",
    )
    assert error is not None
    assert "EngineCrashedError" in str(error)
    assert not notebook.cells[2].outputs
    *_, answer, status, failure = notebook.cells[1].outputs
    assert answer.data["text/html"] == "<p>One</p>"
    assert status.data["text/plain"].startswith("✗ failed · tiny")
    assert len(failure.traceback) == 1


def test_the_bundled_model_answers_stops_and_is_awaited(kernel, bundled_gguf: Path) -> None:
    kernel.ok("%load_ext nbllm\n%reload_ext nbllm\nimport nbllm")
    ran = kernel.ok("%%llm --max-tokens 24 --temperature 0\nName three colours.")
    first = ran.contents("display_data", "update_display_data")[0]["data"]["text/plain"]
    assert first.startswith(("Loading ", "No model was loaded, so the bundled one answers: "))
    assert len(ran.answers[-1]) > 10
    status = ran.contents("display_data")[-1]["data"]["text/plain"]
    assert bundled_gguf.stem in status
    assert "24 tokens" in status
    stopped = kernel.run(
        "%%llm --seed 1\nTell a long story about a whale.", interrupt_when_shown=" "
    )
    assert stopped.interrupt_to_idle_seconds < 0.2
    assert kernel.ok("str(_llm.finish_reason)").result == "'cancelled'"
    awaited = kernel.ok(
        "model = nbllm.default_manager().get_model()\n"
        "(await model.generate('Hi', max_tokens=4)).usage.completion_tokens"
    )
    assert int(awaited.result) <= 4
    kernel.ok("%llm_unload --all")
    assert kernel.ok("nbllm.default_manager().list_loaded_models()").result == "[]"
