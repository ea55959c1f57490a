"""The magics in a real IPython in a terminal: plain text, forms, colours, Ctrl-C, jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect", reason="pexpect needs a Unix terminal")

SETUP = """
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

def use(text, **fields):
    opener = FakeOpener(text=text, **fields)
    manager = ModelManager([fake_info("tiny")], open_model=opener)
    magics.load(get_ipython(), lambda: manager)
    get_ipython().run_line_magic("llm_load", "tiny")

opener = FakeOpener(text="Some words. " * 200, token_seconds=0.01)
manager = ModelManager([fake_info("tiny")], open_model=opener)
magics.load(get_ipython(), lambda: manager)
"""


class Terminal:
    """An IPython that is typed into."""

    def __init__(self, folder: Path, colours: str) -> None:
        (folder / "setup.ipy").write_text(SETUP)
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", "--no-banner", f"--colors={colours}", "--simple-prompt"],
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

    def shown_by(self, line: str) -> str:
        """What a line shows, up to the next prompt; without the empty lines at both ends."""
        self.type(line)
        self._child.expect_exact(line)
        self._child.expect(r"(?=In \[\d+\]: )")
        return str(self._child.before).replace("\r\n", "\n").strip("\n")

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
    terminal = Terminal(tmp_path_factory.mktemp("ipython"), "NoColor")
    yield terminal
    terminal.close()


@pytest.fixture(scope="module")
def colourful_terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("ipython"), "Linux")
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
    assert "Traceback" not in terminal.wait_for("Stopped. The text so far is in _llm.")
    terminal.type("_llm.finish_reason.value, len(_llm.text) > 10")
    terminal.wait_for("('cancelled', True)")


def test_a_job_leaves_the_prompt_alone_until_it_is_asked_for(terminal: Terminal) -> None:
    terminal.type("job = %llm --max-tokens 8 --bg Hi")
    terminal.type("%llm --max-tokens 100 --bg Hi")
    assert terminal.wait_for("<Job 2").endswith("]: ")
    terminal.type("1 + 1")
    assert "Some" not in terminal.wait_for("Out[")
    terminal.type("%llm_jobs wait 1")
    terminal.wait_for("Some words. Some words.")
    terminal.wait_for("tiny · CPU")
    terminal.type("job.state")
    terminal.wait_for("'done'")


def test_an_answer_that_is_the_value_of_a_cell_begins_on_a_line_of_its_own(
    terminal: Terminal,
) -> None:
    asked = "get_ipython().display_formatter.ipython_display_formatter.enabled"
    if "True" not in terminal.shown_by(asked):
        pytest.skip("this IPython lets no value show itself in a terminal")
    terminal.type("use('Some words.')")
    for line in ("job", "_llm", "%llm_last"):
        terminal.type("job = %llm --bg Hi")
        terminal.type("job.result().text")
        head, answer, gap, status, *_ = terminal.shown_by(line).splitlines()
        assert head.startswith("Out[")
        assert (answer, gap) == ("Some words.", "")
        assert status.startswith("tiny · CPU · 2 tokens")


JSON = '```json\n{"river": "Rhine"}\n```'
TABLE = "| city | people |\n|---|---|\n| Rome | 2761477 |"
DIFF = "```diff\n--- a/app.py\n+++ b/app.py\n@@ -1 +1 @@\n-old = 1\n+new = 2\n```"


@pytest.mark.parametrize(
    ("form", "answer", "once"),
    [
        ("json", JSON, "Rhine"),
        ("code", "```python\nprint(6 * 7)\n```", "6 * 7"),
        ("math", r"The law: \(E = mc^2\)", "mc^2"),
        ("text", "Plain words.", "Plain words."),
        ("diff", DIFF, "+new = 2"),
    ],
)
def test_a_form_that_only_repeats_the_answer_is_not_shown_again(
    terminal: Terminal, form: str, answer: str, once: str
) -> None:
    terminal.type(f"use({answer!r})")
    shown = terminal.shown_by(f"%llm --as {form} Go on.")
    assert shown.startswith(answer)
    assert shown.count(once) == 1


def test_a_table_is_shown_below_what_it_was_made_of(terminal: Terminal) -> None:
    terminal.type(f"use({TABLE!r})")
    shown = terminal.shown_by("%llm --as table List cities.")
    assert shown.startswith(TABLE + "\n\ncity    people\nRome 2,761,477\n\ntiny")


def test_a_diff_has_colours_where_the_terminal_has(colourful_terminal: Terminal) -> None:
    colourful_terminal.type(f"use({DIFF!r})")
    shown = colourful_terminal.shown_by("%llm --as diff Rename it.")
    head, old, new = "\x1b[1m+++ b/app.py", "\x1b[31m-old = 1\x1b[0m", "\x1b[32m+new = 2\x1b[0m"
    assert shown.startswith(DIFF)
    assert all(line in shown for line in (head, "\x1b[36m@@ -1 +1 @@", old, new))


@pytest.mark.parametrize(("has_colours", "added"), [(False, "+1 / 2"), (True, "\x1b[32m+1 / 2")])
def test_a_fix_is_shown_as_a_diff(
    request: pytest.FixtureRequest, has_colours: bool, added: str
) -> None:
    terminal = request.getfixturevalue("colourful_terminal" if has_colours else "terminal")
    terminal.type("use('```python\\n1 / 2\\n```')")
    terminal.shown_by("1 / 0")
    shown = terminal.shown_by("%llm_fix")
    assert added in shown
    assert ("\x1b" in shown) is has_colours


def test_errors_are_red_only_where_colours_are_wanted(
    terminal: Terminal, colourful_terminal: Terminal
) -> None:
    line = "%llm -m nowhere Hi"
    assert "\x1b" not in terminal.shown_by(line)
    assert "\x1b[31mModelNotFoundError\x1b[0m: " in colourful_terminal.shown_by(line)


def test_the_dashboard_says_where_it_lives(terminal: Terminal) -> None:
    shown = terminal.shown_by("%llm_dashboard")
    assert "nbllm dashboard, as of" in shown
    assert "needs a notebook with widgets" in shown
