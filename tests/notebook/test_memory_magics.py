"""``%llm_load`` where memory is short: what made room is told, pins and times are flags."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.notebook.asking.waiting import NOTE_AFTER_SECONDS, Loading
from nbllm.notebook.magic_line import seconds
from nbllm.testing import FakeOpener, fake_info

GIB = 2**30


@pytest.fixture
def manager(shell: InteractiveShell) -> ModelManager:
    """Models of 4 GiB on a machine of 9, with the magics over them."""
    opener = FakeOpener(text="Hello.", total_bytes=9 * GIB)
    models = ModelManager(
        [fake_info(name, size_bytes=4 * GIB) for name in ("alpha", "beta", "gamma")],
        open_model=opener,
        plan_model=opener.plan_model,
        resources=opener.resources,
    )
    magics.load(shell, lambda: models)
    return models


def run(shell: InteractiveShell, *cells: str) -> Any:
    for cell in cells:
        ran = shell.run_cell(cell)
        ran.raise_error()
    return ran.result


def test_what_made_room_is_told_under_the_load(
    shell: InteractiveShell, manager: ModelManager, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%llm_load alpha", "%llm Hi", "%llm_load beta", "%llm Hi", "%llm_load gamma")
    shown = capsys.readouterr().out
    assert "Unloaded alpha (4.0 GiB, idle for " in shown
    assert ") to make room for gamma." in shown
    run(shell, "%%llm alpha\nHi")
    shown = capsys.readouterr().out
    assert "Unloaded beta" in shown
    assert shown.index("to make room for alpha.") < shown.index("alpha ready")


def test_pins_are_flags(shell: InteractiveShell, manager: ModelManager) -> None:
    run(shell, "%llm_load alpha --pin", "%llm_load beta", "%llm Hi", "%llm_load gamma", "%llm Hi")
    table = run(shell, "%llm_models").set_index("name")
    assert list(table.index[:2]) == ["alpha", "gamma"]
    assert list(table["pinned"][:2]) == [True, False]
    run(shell, "%llm_load alpha --no-pin", "%llm Hi", "%llm_load beta")
    assert [info.name for info in manager.list_loaded_models()] == ["alpha", "beta"]


def test_a_keep_alive_is_a_flag(shell: InteractiveShell, manager: ModelManager) -> None:
    run(shell, "%llm_load alpha --keep-alive 10m")
    table = run(shell, "%llm_models").set_index("name")
    assert table.loc["alpha", "keep-alive (s)"] == 600
    assert table.loc["alpha", "state"] == "loaded"


def test_how_long_to_wait_is_a_flag(
    shell: InteractiveShell, manager: ModelManager, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%llm_load alpha", "%llm_load beta")
    with manager.get_model("alpha").uses, manager.get_model("beta").uses:
        assert not shell.run_cell("%llm_load gamma --wait 0").success
    assert "not enough memory while alpha and beta are busy" in capsys.readouterr().out


async def test_what_a_load_waits_for_is_in_its_note(manager: ModelManager) -> None:
    for name in ("alpha", "beta"):
        await manager.load_model(name)
    with manager.get_model("alpha").uses, Loading(manager, "gam") as loading:
        with manager.get_model("beta").uses:
            load = asyncio.create_task(manager.load_model("gamma"))
            await asyncio.sleep(NOTE_AFTER_SECONDS)
            while not loading.message.endswith("busy."):  # noqa: ASYNC110 - it is no event
                await asyncio.sleep(0.01)
            assert loading.message == "gamma is waiting for memory: alpha and beta are busy."
        await load
        assert loading.message.startswith("Loading gam")
        (words,) = loading.evictions("gamma")
        assert words.startswith("Unloaded beta")
        assert loading.evictions("alpha") == []


@pytest.mark.parametrize(
    ("word", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2H", 7200), ("1d", 86400)]
)
def test_times(word: str, value: float) -> None:
    assert seconds(word) == value


@pytest.mark.parametrize("word", ["", "soon", "-5", "5 weeks", "1e3"])
def test_what_is_no_time_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is not a time such as 90, 90s, 10m or 2h"):
        seconds(word)
