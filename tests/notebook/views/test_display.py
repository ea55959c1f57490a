"""Where an answer is shown: a terminal, captured output, and who decides."""

import io

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from nbllm.notebook.views.bundles import Ending
from nbllm.notebook.views.display import FinalView, TerminalView, open_view


def test_a_terminal_gets_the_text_once() -> None:
    out = io.StringIO()
    view = TerminalView(out)
    view.note("Loading")
    for piece in ("One", " two\n", "three"):
        view.add(piece)
    view.finish(Ending("One two\nthree.", "status"))
    assert out.getvalue() == "One two\nthree.\n\nstatus\n"


def test_a_terminal_is_told_what_goes_on_in_one_line() -> None:
    out = io.StringIO()
    out.isatty = lambda: True
    view = TerminalView(out)
    view.note("Loading 1 %")
    view.note("Loading 1 %")
    view.keep("ready")
    view.add("Text\n")
    view.finish(Ending("Text\n", "status"))
    assert out.getvalue() == "\r\x1b[KLoading 1 %\r\x1b[Kready\nText\n\nstatus\n"


def test_model_text_cannot_control_a_terminal() -> None:
    out = io.StringIO()
    view = TerminalView(out)
    view.add("a\x1b]52;c;aGk=\x07b\rc\x9bd\te\nf")
    assert out.getvalue() == "a\ufffd]52;c;aGk=\ufffdb\ufffdc\ufffdd\te\nf"


def test_captured_output_holds_the_answer_once() -> None:
    publisher = CapturingDisplayPublisher()
    view = FinalView(publisher)
    view.note("Loading")
    view.keep("ready")
    view.add("Te")
    view.finish(Ending("Text", "status"))
    assert [output["data"]["text/plain"] for output in publisher.outputs] == [
        "ready",
        "Text",
        "status",
    ]


def test_the_shell_decides_what_is_shown(shell: InteractiveShell) -> None:
    assert isinstance(open_view(shell, "llm"), TerminalView)
    shell.display_pub = CapturingDisplayPublisher()
    assert isinstance(open_view(shell, "llm"), FinalView)


@pytest.mark.parametrize(
    ("source", "magic", "is_alone"),
    [
        ("%%llm x\nHello", "llm", True),
        ("\n%%llm\nHello", "llm", True),
        ("%llm Hello", "llm", True),
        ("%llm Hello\n%llm again", "llm", False),
        ("print(1)\n%llm Hello", "llm", False),
        ("%%time\n%llm Hello", "llm", False),
        ("%%llm_x\nHello", "llm", False),
        ("%llm_load x", "llm_load", True),
        ("model = %llm_load x", "llm_load", False),
        ("", "llm", False),
    ],
)
def test_only_a_cell_of_one_magic_may_be_cleared(
    shell: InteractiveShell, front_end, source: str, magic: str, is_alone: bool
) -> None:
    shell.display_pub = front_end  # type: ignore[assignment]
    shell.get_parent = lambda: {"content": {"code": source}}  # type: ignore[attr-defined]
    front_end.publish({"text/plain": "before"}, {})
    view = open_view(shell, magic)
    view.note("live")
    view.finish(Ending("whole", "status"))
    assert (front_end.shown == ["whole", "status"]) is is_alone
