"""The same question is the same request, in whatever way it is asked."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

import nbllm
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import GenerationRequest
from nbllm.notebook import extension as magics
from nbllm.notebook.dashboard.playground import Playground
from nbllm.notebook.loop import LoopThread
from nbllm.testing import FakeModel, FakeOpener, fake_info

QUESTIONS = st.text("aQ ?!.,:;'\"()[]<>#%$\\|é日\u00a0 \n\t-", min_size=1, max_size=40)


class Asker:
    """Asks a model of fakes in every way that there is; ``ask_…`` give the request."""

    def __init__(self, shell: InteractiveShell, folder: Path) -> None:
        self.shell = shell
        self.manager = ModelManager([fake_info("tiny")], folder=folder, open_model=FakeOpener())
        magics.load(shell, lambda: self.manager)
        self.model = nbllm.run(self.manager.load_model("tiny"))[0]

    def last(self) -> GenerationRequest:
        assert isinstance(self.model, FakeModel)
        (request,) = self.model.requests
        self.model.requests.clear()
        return request

    def run(self, cell: str) -> GenerationRequest:
        with redirect_stdout(io.StringIO()):
            self.shell.run_cell(cell).raise_error()
        return self.last()

    def job(self, text: str) -> GenerationRequest:
        self.shell.run_cell(f"%%llm --raw --bg -o job\n{text}\n").raise_error()
        self.shell.user_ns["job"].result()
        return self.last()

    def python(self, text: str) -> GenerationRequest:
        nbllm.run(self.model.generate(text, max_tokens=1000))
        return self.last()

    def playground(self, text: str) -> GenerationRequest:
        loop = LoopThread()
        try:
            page = Playground(self.manager, loop)
            page.inputs["model"].options = ["tiny"]
            page.inputs["model"].value = "tiny"
            page.inputs["prompt"].value = text
            page.inputs["max_tokens"].value = "1000"
            page.send()
            assert page._job is not None
            page._job.result.result(10)
        finally:
            loop.close()
        return self.last()


@pytest.fixture
def asker(shell: InteractiveShell, tmp_path: Path) -> Asker:
    return Asker(shell, tmp_path)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUESTIONS)
def test_every_way_sends_the_same(asker: Asker, text: str) -> None:
    text = text.strip()
    assume(text and not text.startswith("%"))
    cells = [
        f"%%llm\n{text}",
        f"%%llm\n\n{text}  \n\n",
        "%llm {question}",
        f"%%llm --chat c{len(asker.shell.user_ns)}\n{text}\n",
    ]
    asker.shell.user_ns["question"] = text
    asker.shell.user_ns[f"used_{len(asker.shell.user_ns)}"] = None  # a new chat each time
    if "\n" not in text and not text.startswith("-"):
        cells.append(f"%llm {text}")
    requests = [asker.run(cell) for cell in cells]
    requests += [asker.job(text), asker.python(f"\n{text}\n "), asker.playground(text)]
    assert {request.messages[-1].text for request in requests} == {text}
    assert all(request == requests[0] for request in requests)
