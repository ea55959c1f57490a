"""``%llm_help``, the bare ``%llm``, and the line that points to them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.notebook.asking.ask_magics import LastFlags
from nbllm.notebook.asking.question import AskFlags
from nbllm.notebook.batch.frame_request import run_flags
from nbllm.notebook.chat.chat_magics import ChatFlags
from nbllm.notebook.flags import flagged_options, parser_for
from nbllm.notebook.help_card import Card, magics_of
from nbllm.notebook.help_magics import HelpFlags
from nbllm.notebook.jobs.job_magics import JobsFlags
from nbllm.notebook.models.bench_magics import BenchFlags, FitFlags
from nbllm.notebook.models.model_magics import LoadFlags, ModelsFlags, UnloadFlags
from nbllm.notebook.models.pull_magics import DeleteFlags, PullFlags
from nbllm.notebook.models.quantize_magics import ImatrixFlags, QuantizeFlags, TuneFlags
from nbllm.notebook.settings.config_magics import ConfigFlags
from nbllm.notebook.stats.budget_magics import BudgetFlags
from nbllm.notebook.stats.cache_magics import CacheFlags
from nbllm.notebook.stats.stats_magics import PlotFlags, StatsFlags
from nbllm.testing import FakeOpener, fake_info

NAMES = sorted({name for group in magics.GROUPS for row in group.magics.values() for name in row})


@pytest.fixture
def loaded(shell: InteractiveShell, tmp_path: Path) -> Iterator[InteractiveShell]:
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=FakeOpener())
    magics.load(shell, lambda: manager)
    yield shell
    magics.unload(shell)


def card(shell: InteractiveShell, line: str = "%llm_help") -> Card:
    value = shell.run_cell(line).result
    assert isinstance(value, Card)
    return value


def test_every_magic_is_on_the_card_in_a_section_of_its_own(loaded: InteractiveShell) -> None:
    shown = card(loaded)
    entries = [entry for _, entries in shown.sections for entry in entries]
    assert sorted(entry.name.split("%")[-1] for entry in entries) == NAMES
    assert "More" not in [title for title, _ in shown.sections]
    for entry in entries:
        assert entry.purpose.endswith(".")
        assert any(entry.name.split("%")[-1] in example for example in entry.examples)
        for form in (repr(shown), re.sub(r"<.*?>", "", shown._repr_html_())):
            assert entry.name in form


def test_a_new_magic_cannot_be_left_out(
    loaded: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = loaded.magics_manager.registry["AskMagics"].session
    group = loaded.magics_manager.registry["AskMagics"]
    monkeypatch.setitem(group.magics["line"], "llm_new", lambda line: line)
    assert "%llm_new" in repr(card(loaded))
    assert "llm_new" in magics_of(session)


def test_llm_alone_is_the_same(loaded: InteractiveShell) -> None:
    for line in ("%llm", "%llm  "):
        assert card(loaded, line) == card(loaded)
    assert not loaded.run_cell("%%llm\n").success, "an empty cell asks nothing"


def test_the_examples_are_cells_that_can_be_read(loaded: InteractiveShell) -> None:
    for _, entries in card(loaded).sections:
        for entry in entries:
            for example in entry.examples:
                assert loaded.input_transformer_manager.check_complete(example)[0] != "invalid"


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_a_question_mark_does(loaded: InteractiveShell, name: str) -> None:
    asked = loaded.object_inspect(f"%{name}")["docstring"]
    short = name.removeprefix("llm_")
    for written in {name, f"%{name}", f"%%{name}", f"%{name}?", short}:
        page = repr(loaded.run_line_magic("llm_help", written))
        assert page in asked
        assert "Examples::" in page


def test_an_unknown_magic_names_the_nearest(
    loaded: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded.run_cell("%llm_help lod")
    loaded.run_cell("%llm_help zzz")
    shown = capsys.readouterr()
    assert "there is no magic %lod. Did you mean 'load'?" in shown.err + shown.out
    assert "llm_unload" in shown.err + shown.out


def test_the_card_has_the_names_of_this_shell(loaded: InteractiveShell) -> None:
    loaded.run_line_magic("llm_config", "magic_prefix=nb")
    shown = repr(loaded.run_line_magic("nb_help", ""))
    assert "%%nb, %nb " in shown
    assert "%llm" not in shown
    assert "%llm" not in repr(loaded.run_line_magic("nb_help", "chat"))


# ---------------------------------------------------------------- the hint


HINT = "nbllm is loaded: %%llm asks a model, %llm_help shows more"


def test_loading_points_to_it_once_in_a_kernel_and_only_for_people(kernel: Any) -> None:
    loads = ("%reload_ext nbllm", "%unload_ext nbllm\n%load_ext nbllm")
    assert _hints(kernel, ("%load_ext nbllm", *loads), is_typed=False) == 0
    assert _hints(kernel, ("%reload_ext nbllm", *loads), is_typed=True) == 1


def _hints(kernel: Any, cells: tuple[str, ...], *, is_typed: bool) -> int:
    shown = []
    for cell in cells:
        ran = kernel.run(cell, is_typed=is_typed)
        assert not ran.contents("stream", "error")
        shown += [content["data"]["text/plain"] for content in ran.contents("display_data")]
    assert set(shown) <= {HINT}
    return len(shown)


def test_scripts_and_start_up_files_see_no_hint(shell: InteractiveShell, capsys: Any) -> None:
    shell.run_line_magic("load_ext", "nbllm")
    assert capsys.readouterr() == ("", "")


FLAGS = {
    "llm_bench": BenchFlags,
    "llm_budget": BudgetFlags,
    "llm_cache": CacheFlags,
    "llm_chat": ChatFlags,
    "llm_config": ConfigFlags,
    "llm_delete": DeleteFlags,
    "llm_fit": FitFlags,
    "llm_help": HelpFlags,
    "llm_imatrix": ImatrixFlags,
    "llm_jobs": JobsFlags,
    "llm_last": LastFlags,
    "llm_load": LoadFlags,
    "llm_models": ModelsFlags,
    "llm_plot": PlotFlags,
    "llm_pull": PullFlags,
    "llm_quantize": QuantizeFlags,
    "llm_stats": StatsFlags,
    "llm_tune": TuneFlags,
    "llm_unload": UnloadFlags,
}
ASKING = ("llm", "llm_explain", "llm_fix")


def test_every_magic_says_which_flags_its_parser_finds(loaded: InteractiveShell) -> None:
    session = loaded.magics_manager.registry["AskMagics"].session
    found = {
        name: {action.dest for action in parser_for(magic.function)._actions} - {"help"}
        for name, magic in magics_of(session).items()
    }
    explained = {name: magic.function.explained for name, magic in magics_of(session).items()}
    from_table = {
        name: {*(each.only or flagged_options(each.options))} for name, each in explained.items()
    }
    asking = {name: found.pop(name) for name in ASKING}
    with_own = {name for name, flags in found.items() if flags - from_table[name]}
    assert with_own == FLAGS.keys()
    for name, kind in FLAGS.items():
        assert {*kind.__annotations__, *from_table[name]} == found[name], name
    options = flagged_options("generation").keys()
    fields = {field.name for field in dataclasses.fields(AskFlags)}
    for name, flags in asking.items():
        assert flags - {*options, *run_flags(), "accept"} <= fields, name
    assert fields - {"options", "run"} == asking["llm"] - {*options, *run_flags()}
