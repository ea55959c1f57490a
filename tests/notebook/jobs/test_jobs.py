"""Answers in the background, in a real kernel: shown, listed, awaited, stopped, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
%load_ext nbllm
from nbllm.core.errors import EngineCrashedError
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

def use(**arguments):
    global opener, manager
    opener = FakeOpener(**arguments)
    manager = ModelManager([fake_info("tiny"), fake_info("other")], open_model=opener)
    magics.load(get_ipython(), lambda: manager)
"""
WORDS = "'Some words that go on and on. ' * 400"


@pytest.fixture(scope="module")
def jobs_kernel(kernel: Any) -> Any:
    kernel.ok(SETUP)
    return kernel


def shown(ran: Any) -> list[str]:
    return [
        content["data"]["text/plain"]
        for content in ran.contents("display_data", "update_display_data")
    ]


def test_it_begins_at_once_and_goes_on_while_other_cells_run(jobs_kernel: Any) -> None:
    jobs_kernel.ok("use(text='One two three four five.', token_seconds=0.2)\n%llm_load tiny")
    began = jobs_kernel.ok("%%llm --bg -o job\nHi")
    assert not began.contents("execute_result"), "its display is enough"
    assert shown(began)[0] == "Job 1 has started."
    assert jobs_kernel.ok("job.done, job.state, '_llm' in globals()").result.startswith("(False, ")
    assert jobs_kernel.ok("job.result().text").result == "'One two three four five.'"
    assert jobs_kernel.ok("(await job).text, job.state, _llm is job.result()").result == (
        "('One two three four five.', 'done', True)"
    )


def test_several_at_once_are_listed(jobs_kernel: Any) -> None:
    jobs_kernel.ok(f"use(text={WORDS}, token_seconds=0.02)\n%llm_load tiny\n%llm_load other")
    jobs_kernel.ok("%%llm tiny --bg -o first\nThe first question")
    jobs_kernel.ok("second = %llm -m other --bg The second question?")
    table = jobs_kernel.ok("%llm_jobs").result
    assert "The first question" in table
    assert "The second question?" in table
    assert "tiny" in table
    assert "other" in table
    table = jobs_kernel.ok("import time\ntime.sleep(0.3)\n%llm_jobs stop 1").result
    assert "stopped" in table
    assert "writing" in table
    assert jobs_kernel.ok("len(first.result().text) > 5, first.state, second.state").result == (
        "(True, 'stopped', 'writing')"
    )
    jobs_kernel.ok("%llm_jobs stop")
    assert jobs_kernel.ok("second.result(timeout=10).finish_reason.value").result == "'cancelled'"
    assert jobs_kernel.ok("opener.opened[0].cancelled + opener.opened[1].cancelled").result == "2"


def test_waiting_shows_it_in_the_cell_that_waits(jobs_kernel: Any) -> None:
    jobs_kernel.ok("use(text='One two three.', token_seconds=0.3)\n%llm_load tiny")
    jobs_kernel.ok("%%llm --bg\nHi")
    waited = jobs_kernel.ok("%llm_jobs wait 1")
    assert "One two three." in shown(waited)
    assert shown(waited)[-1].startswith("tiny · CPU · ")


def test_an_interrupt_ends_the_wait_alone(jobs_kernel: Any) -> None:
    jobs_kernel.ok(f"use(text={WORDS}, token_seconds=0.02)\n%llm_load tiny")
    jobs_kernel.ok("%%llm --bg -o job\nHi")
    jobs_kernel.ok("import time; time.sleep(0.5)")
    ran = jobs_kernel.run("%llm_jobs wait", interrupt_when_shown="words")
    assert not ran.contents("error")
    assert "Job 1 keeps running; %llm_jobs stop 1 stops it." in str(ran.contents("display_data"))
    assert jobs_kernel.ok("job.done").result == "False"
    jobs_kernel.ok("job.stop()")
    assert jobs_kernel.ok("job.result().finish_reason.value").result == "'cancelled'"


def test_a_failure_is_shown_and_raised_where_one_waits(jobs_kernel: Any) -> None:
    jobs_kernel.ok(
        "use(text='One two', fail_after=1, error=EngineCrashedError('tiny', 'it died'))\n"
        "%llm_load tiny"
    )
    jobs_kernel.ok("%%llm --bg -o job\nHi")
    ran = jobs_kernel.run("%llm_jobs wait 1")
    assert ran.reply["status"] == "error"
    assert ran.contents("error")[0]["ename"] == "EngineCrashedError"
    assert "it died" in shown(ran)[-1]
    assert jobs_kernel.ok("_llm.text, job.state").result == "('One', 'failed')"


def test_a_model_that_cannot_be_loaded_fails_the_job(jobs_kernel: Any) -> None:
    jobs_kernel.ok("use()")
    jobs_kernel.ok("%%llm nowhere --bg -o job\nHi")
    ran = jobs_kernel.run("job.result()")
    assert ran.contents("error")[0]["ename"] == "ModelNotFoundError"
    assert (
        "No model is called 'nowhere'"
        in jobs_kernel.ok("job.show()").contents("display_data")[0]["data"]["text/plain"]
    )


def test_an_unknown_job_is_told_with_those_there_are(jobs_kernel: Any) -> None:
    jobs_kernel.ok("use()")
    ran = jobs_kernel.run("%llm_jobs wait 7")
    assert "there is no job 7; %%llm --bg starts one" in ran.contents("stream")[0]["text"]


def test_unloading_the_extension_stops_what_runs(jobs_kernel: Any) -> None:
    jobs_kernel.ok(f"use(text={WORDS}, token_seconds=0.02)\n%llm_load tiny")
    jobs_kernel.ok("%%llm --bg -o job\nHi")
    jobs_kernel.ok("%unload_ext nbllm")
    assert jobs_kernel.ok("job.result(timeout=10).finish_reason.value").result == "'cancelled'"
    jobs_kernel.ok("%load_ext nbllm")


def test_a_headless_run_saves_the_answer_in_both_cells() -> None:
    cells = [
        f"{SETUP}use(text='One two three.', token_seconds=0.1)\n%llm_load tiny",
        "%%llm --bg\nHi",
        "1 + 1",
        "%llm_jobs wait",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    for cell in (notebook.cells[1], notebook.cells[3]):
        answer, status = cell.outputs
        assert answer.data["text/html"] == "<p>One two three.</p>"
        assert answer.metadata["nbllm"]["model"] == "tiny"
        assert status.data["text/plain"].startswith("tiny · CPU · ")
    assert "widgets" not in notebook.metadata
    nbformat.validate(notebook)


TABLE = "import pandas as pd\ndf = pd.DataFrame({'text': [f'row {n}' for n in range(20)]})"


def test_a_run_over_a_table_goes_on_behind_other_cells(jobs_kernel: Any) -> None:
    jobs_kernel.ok(f"use(text='One <b>two</b>.', token_seconds=0.1)\n%llm_load tiny\n{TABLE}")
    began = jobs_kernel.ok("%%llm --map df --bg -o job --into said\nAbout {text}:")
    assert shown(began)[0].endswith(" has started.")
    assert jobs_kernel.ok("job.done").result == "False"
    assert "df: About {text}:" in jobs_kernel.ok("%llm_jobs").result
    assert jobs_kernel.ok("(await job)['said'].tolist() == ['One <b>two</b>.'] * 20").result == (
        "True"
    )
    assert jobs_kernel.ok("job.state, list(df.columns)").result == "('done', ['text'])"
    again = jobs_kernel.ok("job")
    assert any("20 of 20 rows" in text for text in shown(again))
    pages = [data["data"].get("text/html", "") for data in again.contents("display_data")]
    assert any("&lt;b&gt;two" in page for page in pages)
    assert not any("<b>two" in page for page in pages)


def test_a_run_that_is_stopped_has_what_is_finished(jobs_kernel: Any, tmp_path: Path) -> None:
    journal = tmp_path / "bg.jsonl"
    jobs_kernel.ok(f"use(text='One two.', token_seconds=0.1)\n%llm_load tiny\n{TABLE}")
    jobs_kernel.ok(f"%%llm --map df --bg -o job --journal {journal}\nAbout {{text}}:")
    jobs_kernel.ok("import time\nwhile not job.text: time.sleep(0.02)\n%llm_jobs stop")
    out = jobs_kernel.ok("job.state, 0 < int(job.result()['answer'].notna().sum()) < 20").result
    assert out == "('stopped', True)"
    told = shown(jobs_kernel.ok("job"))
    assert any(f"kept in {journal}; run the cell again to go on" in text for text in told)
    jobs_kernel.ok(f"%%llm --map df --bg -o again --journal {journal}\nAbout {{text}}:")
    jobs_kernel.ok("again.result()")
    assert jobs_kernel.ok("again._progress.resumed > 0, again._progress.done").result == (
        "(True, 20)"
    )


def test_a_run_that_fails_says_why_and_has_what_is_finished(jobs_kernel: Any) -> None:
    jobs_kernel.ok(f"use(text='One two.', token_seconds=0.01)\n%llm_load tiny\n{TABLE}")
    jobs_kernel.ok("%llm_budget --requests 3")
    jobs_kernel.ok("%%llm --map df --bg -o job\nAbout {text}:")
    jobs_kernel.ok(
        "try: job.result()\nexcept Exception as error: failed = error\nelse: failed = None"
    )
    told = jobs_kernel.ok("type(failed).__name__, str(failed)[:38], job.state").result
    assert told == "('BatchError', 'stopped, as a budget allows no more: t', 'failed')"
    assert jobs_kernel.ok("int(failed.finished['answer'].notna().sum())").result == "3"
    assert any("budget" in text for text in shown(jobs_kernel.ok("job")))
