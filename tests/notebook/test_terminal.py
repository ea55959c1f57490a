"""The magics in a real IPython in a terminal: plain text, Ctrl-C, jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect", reason="pexpect needs a Unix terminal")

SETUP = """
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import magics
from nbllm.testing import FakeOpener, fake_info

opener = FakeOpener(text="Some words. " * 200, token_seconds=0.01)
manager = ModelManager([fake_info("tiny")], open_model=opener)
magics.load(get_ipython(), lambda: manager)
"""


class Terminal:
    """An IPython that is typed into."""

    def __init__(self, folder: Path) -> None:
        (folder / "setup.ipy").write_text(SETUP)
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", "--no-banner", "--colors=NoColor", "--simple-prompt"],
            cwd=folder,
            env={"IPYTHONDIR": str(folder), "TERM": "xterm", "PATH": "", "HOME": str(folder)},
            timeout=30,
            encoding="utf-8",
            dimensions=(40, 120),
        )
        self.type("%run setup.ipy")

    def type(self, line: str) -> None:
        """Type a line at the next prompt."""
        self._child.expect(r"In \[\d+\]: ")
        self._child.sendline(line)

    def wait_for(self, text: str) -> str:
        """What is shown before ``text`` comes."""
        self._child.expect_exact(text)
        return str(self._child.before)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.sendintr()

    def close(self) -> None:
        """End it."""
        self._child.close(force=True)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("ipython"))
    yield terminal
    terminal.close()


def test_an_answer_is_plain_text_with_its_status(terminal: Terminal) -> None:
    terminal.type("%llm -m tiny --max-tokens 4 Hi?")
    assert "tiny ready on CPU" in terminal.wait_for("Some words. Some words.")
    assert "<div" not in terminal.wait_for("cut off at the token limit · tiny · CPU")


def test_ctrl_c_stops_and_keeps(terminal: Terminal) -> None:
    terminal.type("%llm Tell a story.")
    terminal.wait_for("Some words. Some words.")
    terminal.interrupt()
    assert "Traceback" not in terminal.wait_for("Stopped. What had arrived is in _llm.")
    terminal.type("_llm.finish_reason.value, len(_llm.text) > 10")
    terminal.wait_for("('cancelled', True)")


def test_a_job_leaves_the_prompt_alone_until_it_is_asked_for(terminal: Terminal) -> None:
    terminal.type("job = %llm --max-tokens 8 --bg Hi")
    terminal.type("1 + 1")
    assert "Some" not in terminal.wait_for("Out[")
    terminal.type("%llm_jobs wait 1")
    terminal.wait_for("Some words. Some words.")
    terminal.wait_for("tiny · CPU")
    terminal.type("job.state")
    terminal.wait_for("'done'")
