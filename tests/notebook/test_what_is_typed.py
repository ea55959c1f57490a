"""What a person types is what is asked: scopes, values of cells, sources, and words of settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import IPython
import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.errors import LoadedOtherwiseError
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeModel, FakeOpener, fake_info

FENCED = "```python\n1 / 2\n```"


class Asked:
    """A shell, the model that answers in it, and what it was asked."""

    def __init__(self, shell: InteractiveShell, folder: Path) -> None:
        self.shell, self.opener = shell, FakeOpener(text=FENCED)
        self.manager = ModelManager([fake_info("tiny")], folder=folder, open_model=self.opener)
        magics.load(shell, lambda: self.manager)
        self.run("%llm_load tiny")

    def run(self, cell: str) -> object:
        ran = self.shell.run_cell(cell, store_history=True)
        ran.raise_error()
        return ran.result

    def fail(self, cell: str) -> None:
        assert not self.shell.run_cell(cell, store_history=True).success

    @property
    def model(self) -> FakeModel:
        return self.opener.opened[-1]

    @property
    def prompts(self) -> list[str]:
        return [request.messages[-1].text for request in self.model.requests]


@pytest.fixture
def asked(shell: InteractiveShell, tmp_path: Path) -> Asked:
    return Asked(shell, tmp_path)


# ------------------------------------------------------------ scopes


@pytest.mark.parametrize(
    ("cell", "prompts"),
    [
        ("def f(n, city='Rome'):\n    %llm {n} on {city}\nf(3)", ["3 on Rome"]),
        ("def f(n):\n    def g():\n        %llm {n}\n    return g\nf(3)()", ["3"]),
        ("f = lambda n: %llm {n}?\nf(3)", ["3?"]),
        ("for n in 1, 2: %llm {n}", ["1", "2"]),
        ("class A:\n    n = 5\n    %llm {n} {city}", ["5 everywhere"]),
        ("async def f(n):\n    %llm {n}\nawait f(4)", ["4"]),
        ("def f():\n    for n in 'ab':\n        yield %llm {n}\nlist(f())", ["a", "b"]),
        ("def f(city):\n    [{ask} for n in [7]]\nf('Ulm')", ["7 in Ulm"]),
        ("def f(city):\n    list({ask} for n in [7])\nf('Ulm')", ["7 in Ulm"]),
        ("def f(city):\n    def g(n):\n        {ask}\n    g(7)\nf('Ulm')", ["7 in Ulm"]),
        ("def f():\n    %llm {city}\n    city = 1\nf()", ["{city}"]),
        ("def f(n):\n    get_ipython().run_cell_magic('llm', '', '{n}')\nf(6)", ["6"]),
        ("exec({ask!r}, {{'n': 1, 'city': 'x', 'get_ipython': get_ipython}})", ["1 in x"]),
        ("def f(n):\n    %time %llm {n}\nf(8)", ["8"]),
    ],
)
def test_a_prompt_sees_what_code_in_its_place_would_see(
    asked: Asked, cell: str, prompts: list[str]
) -> None:
    asked.run("city, n = 'everywhere', 'global'")
    ask = "get_ipython().run_line_magic('llm', '{n} in {city}')"
    if "{ask" in cell:
        cell = cell.format(ask=ask)
    asked.run(cell)
    assert asked.prompts == prompts


def test_a_library_that_calls_the_magic_lends_no_variables(asked: Asked) -> None:
    asked.run("from concurrent.futures import ThreadPoolExecutor as Pool\nasker = get_ipython()")
    asked.run("Pool().submit(asker.run_line_magic, 'llm', 'Tell {work_item}').result()")
    assert asked.prompts == ["Tell {work_item}"]


def test_a_schema_may_be_local(asked: Asked) -> None:
    asked.run("def f():\n    S = {'type': 'object'}\n    %llm --schema S --show-prompt Hi\nf()")


def test_variables_of_startup_files_are_the_readers(asked: Asked) -> None:
    asked.run("city, _place = 'Rome', 'here'")
    asked.shell.user_ns_hidden.update(asked.shell.user_ns)
    asked.run("%llm {city} {_place} {get_ipython} {quit}")
    assert asked.prompts == ["Rome here {get_ipython} {quit}"]


def test_an_embedded_shell_knows_module_and_function(asked: Asked) -> None:
    asked.shell.user_module.__dict__["town"] = "of the module"
    asked.shell.user_ns = {**asked.shell.user_ns, "local": "of the function"}
    asked.run("%llm {town} {local}")
    assert asked.prompts == ["of the module of the function"]


def test_cells_are_told_as_they_were_typed(asked: Asked) -> None:
    asked.run("x = %llm What is (it?")
    asked.run("%llm {In[2]}")
    assert asked.prompts[-1] == "x = %llm What is (it?"


# ------------------------------------------------------------ values


@pytest.mark.parametrize(
    "cell",
    [
        "x = %llm Hi?",
        "d = {}\nd['k'] = %llm Hi?\nx = d['k']",
        "x = get_ipython().run_line_magic('llm', 'Hi')",
        "x = get_ipython().run_cell_magic('llm', '', 'Hi')",
        "if True: x = %llm Hi",
        "x = %llm_explain",
    ],
)
def test_the_result_is_returned(asked: Asked, cell: str) -> None:
    asked.fail("1 / 0")
    asked.run(cell)
    assert asked.shell.user_ns["x"] is asked.shell.user_ns["_llm"]


@pytest.mark.parametrize("cell", ["%llm Hi?", "%%llm\nHi", "%time %llm Hi", "%llm Hi;", "llm Hi?"])
def test_an_answer_is_shown_once_and_is_the_value_of_the_cell(
    asked: Asked, capsys: pytest.CaptureFixture[str], cell: str
) -> None:
    capsys.readouterr()
    assert asked.run(cell) is asked.shell.user_ns["_llm"]
    shown = capsys.readouterr().out
    assert shown.count("1 / 2") == 1
    assert "Out[" not in shown
    asked.run("_llm")
    assert "1 / 2" in capsys.readouterr().out


def test_captured_output_has_no_empty_part(asked: Asked) -> None:
    asked.run("%%capture captured\n%llm Hi?")
    captured: Any = asked.shell.user_ns["captured"]
    assert all(output.data for output in captured.outputs)


def test_the_hook_for_values_is_back_after_the_cell(asked: Asked) -> None:
    before = sys.displayhook
    asked.run("%llm Hi")
    assert sys.displayhook is before


# ------------------------------------------------------------ the cell of %load_ext


@pytest.mark.parametrize("line", ["%llm What is it?", "x = %llm What is it?", "if 1: %llm Is it?"])
def test_questions_below_the_load_are_asked(
    shell: InteractiveShell, tmp_path: Path, line: str
) -> None:
    opener = FakeOpener()
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=opener)
    shell.user_ns["load"] = lambda: magics.load(shell, lambda: manager)
    help_before = shell.find_line_magic("pinfo")
    ran = shell.run_cell(f"load()\n%llm_load tiny\nif True:\n    for n in 1, 2:\n        {line}")
    ran.raise_error()
    prompts = [request.messages[-1].text for request in opener.opened[0].requests]
    assert prompts == [line.partition("%llm ")[2]] * 2
    assert shell.find_line_magic("pinfo") == help_before


# ------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (
            "\n%llm Hi?\n\n1 / 0",
            ["In a notebook cell, line 4", "   2 | %llm Hi?", ">    4 | 1 / 0"],
        ),
        pytest.param(
            "%%time\n\nx = 1\n%llm Hi?\nx / 0",
            ["%%time", "   4 | %llm Hi?", ">    5 | x / 0"],
            marks=pytest.mark.skipif(
                IPython.version_info[0] < 8, reason="IPython 7's %%time tells errors itself"
            ),
        ),
        ("%%capture\n%llm Hi?\n1 / 0", ["   2 | %llm Hi?", ">    3 | 1 / 0"]),
        ("%llm a \\\n  b\n1 / 0", ["   1 | %llm a \\", ">    3 | 1 / 0"]),
        ("x = %llm Hi?\nx.nothing", ["   1 | x = %llm Hi?", ">    2 | x.nothing"]),
    ],
)
def test_an_error_is_explained_by_the_cell_as_typed(
    asked: Asked, capsys: pytest.CaptureFixture[str], cell: str, told: list[str]
) -> None:
    asked.shell.run_cell(cell, store_history=True)
    capsys.readouterr()
    asked.run("%llm_explain")
    assert "In[2]: " in capsys.readouterr().out
    assert all(line in asked.prompts[-1] for line in told)
    assert "run_line_magic" not in asked.prompts[-1]
    assert "run_cell_magic" not in asked.prompts[-1]
    asked.run("%llm_fix")
    assert f"```python\n{cell.strip()}\n```" in asked.prompts[-1]


def test_the_errors_of_a_group_are_told(asked: Asked) -> None:
    group = type("ExceptionGroup", (Exception,), {})  # Python 3.10 has packages for it
    asked.shell.user_ns["group"] = group
    errors = ", ".join(f"ValueError('number {n}')" for n in range(7))
    asked.fail(f"def f():\n    e = group('many')\n    e.exceptions = [{errors}]\n    raise e\nf()")
    asked.run("%llm_explain")
    assert "Error 1 of the 7 in this group:\n\nValueError: number 0" in asked.prompts[-1]
    assert "ValueError: number 4" in asked.prompts[-1]
    assert "number 5" not in asked.prompts[-1].partition("Error 1 of")[2]
    assert "[2 more]" in asked.prompts[-1]


def test_an_error_from_before_the_load_is_known(asked: Asked) -> None:
    magics.unload(asked.shell)
    asked.fail("early / 1")
    magics.load(asked.shell, lambda: asked.manager)
    asked.run("%llm_explain")
    assert "NameError: name 'early' is not defined" in asked.prompts[-1]


def test_the_errors_of_libraries_and_magics_are_not_the_last(asked: Asked) -> None:
    asked.fail("1 / 0")
    asked.fail("%llm --nothing")
    asked.run("%llm_explain")
    assert "ZeroDivisionError" in asked.prompts[-1]


# ------------------------------------------------------------ flags, settings, loads


@pytest.mark.parametrize(
    "name", ["print", "get_ipython", "In", "_", "_i3", "__name__", "display", "list", "_llm", "2x"]
)
def test_a_result_takes_nobodys_name(
    asked: Asked, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    asked.fail(f"%llm -o {name} Hi")
    assert repr(name) in capsys.readouterr().err
    assert not asked.prompts


def test_short_flags_and_beginnings_of_flags(asked: Asked) -> None:
    asked.run("%llm -t 0.5 -n 3 --see 1 Hi")
    options = asked.model.requests[-1].options
    assert (options.temperature, options.max_tokens, options.seed) == (0.5, 3, 1)


@pytest.mark.parametrize("cell", ["%llm_load --help", "%llm -h", "%%llm --help", "%llm_jobs -h"])
def test_help_is_printed(asked: Asked, capsys: pytest.CaptureFixture[str], cell: str) -> None:
    asked.run(cell)
    assert "Examples::" in capsys.readouterr().out


@pytest.mark.parametrize(
    "cell", ["%%llm tiny Tell me\nmore", "%%llm What's up\nmore", "%%llm What is it?"]
)
def test_a_prompt_goes_below_the_cell_magic(
    asked: Asked, capsys: pytest.CaptureFixture[str], cell: str
) -> None:
    asked.fail(cell)
    assert "put the prompt on the lines below %%llm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "temperature", "max_tokens"),
    [
        ("temperature 0.5", 0.5, None),
        ("temperature = 0.5 max_tokens= 7", 0.5, 7),
        ("temperature =0.5 max_tokens 7", 0.5, 7),
        ("temperature=0.5 max_tokens=", 0.5, None),
        ("temperature -0 max_tokens 7", 0, 7),
    ],
)
def test_settings_take_their_values_as_words(
    asked: Asked, line: str, temperature: float, max_tokens: int | None
) -> None:
    asked.run(f"%llm_config {line}")
    asked.run("%llm Hi")
    options = asked.model.requests[-1].options
    assert options.temperature == temperature
    assert options.max_tokens == (max_tokens or 1000)


def test_a_value_of_several_words_needs_quotation_marks(asked: Asked) -> None:
    asked.fail("%llm_config system Answer in French")
    asked.run('%llm_config system "Answer in French" show_status False')
    asked.run("%llm Hi")
    assert asked.model.requests[-1].messages[0].text == "Answer in French"


def test_a_model_that_is_not_there_is_told(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.run("%llm_config model=tiny")
    assert "not there" not in capsys.readouterr().out
    asked.run("%llm_config model=tinny")
    assert "model is set to 'tinny', which is not available yet" in capsys.readouterr().out


def test_an_idle_model_is_loaded_again_with_other_options(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.run("%llm_load tiny --kv q8_0 --pin")
    asked.run("%llm_load tiny --ctx 2048")
    assert "tiny was idle and is loaded again, with context_length=2048." in capsys.readouterr().out
    (status,) = asked.manager.list_statuses()
    assert (status.info.load.context_length, status.info.load.kv_type) == (2048, "q8_0")
    assert status.pinned


def test_a_busy_model_is_not_loaded_again(asked: Asked) -> None:
    with asked.model.uses.lease():
        ran = asked.shell.run_cell("%llm_load tiny --ctx 2048")
    assert isinstance(ran.error_in_exec, LoadedOtherwiseError)
    assert "loaded with other options and busy; try again when its requests end" in str(
        ran.error_in_exec
    )


def test_reload_ext_keeps_what_was_made(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = FakeOpener(text=FENCED, token_seconds=0.2)
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=opener)
    monkeypatch.setattr(magics, "_default_manager", lambda: manager)
    monkeypatch.chdir(tmp_path)
    shell.run_line_magic("load_ext", "nbllm")

    def run(cell: str) -> Any:
        ran = shell.run_cell(cell)
        ran.raise_error()
        return ran.result

    run("%llm_config temperature=0.5 model=tiny")
    run("%llm --chat trip -n 1 Hi")
    shell.run_cell("1 / 0")
    run("%llm_fix")
    run("job = %llm --bg Hi")
    run("%reload_ext nbllm")
    assert run("job.result(timeout=10).finish_reason.value") == "stop"
    assert len(run("%llm_jobs")) == 1
    assert list(run("%llm_chat")["chat"]) == ["trip"]
    assert run("%llm_last 3").finish_reason == "length"
    assert shell.user_ns["_llm"] is run("%llm_last")
    run("%llm Hi")
    assert opener.opened[0].requests[-1].options.temperature == 0.5
    run("%llm_fix --accept")
    run("%config NbLLM.model = 'other'")
    assert run("%config NbLLM.model") == "other"
