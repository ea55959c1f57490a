"""``%llm_pull`` and ``%llm_delete`` in a shell, against a hub on the loopback."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import MIB, FakeHub, fake_hub, made_model
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.downloads import PullProgress
from nbllm.core.errors import DownloadError
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension
from nbllm.notebook.models.pull_magics import progress_words
from nbllm.notebook.running_cell import Stopped

MODEL = made_model()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    pytest.importorskip("huggingface_hub", reason="downloads need the extra hub")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add(
            "org/tiny",
            **{"tiny.Q8_0.gguf": MODEL, "tiny.Q4_0.gguf": MODEL[:-9], "tiny.BF16.gguf": MODEL * 2},
        )
        yield hub


@pytest.fixture
def page(shell: InteractiveShell, front_end: Any, hub: FakeHub, tmp_path: Path) -> InteractiveShell:
    manager = ModelManager(folder=tmp_path)
    extension.load(shell, lambda: manager)
    shell.display_pub = front_end
    return shell


def magic(page: InteractiveShell, line: str) -> Any:
    name, _, rest = line.partition(" ")
    return page.run_line_magic(name, rest)


def test_the_best_variant_comes_and_is_found(page: InteractiveShell, front_end: Any) -> None:
    info = magic(page, "llm_pull org/tiny")
    assert info.path.name == "tiny.Q8_0.gguf"
    shown = "\n".join(front_end.shown)
    assert "hf.co/org/tiny: Q8_0 (3 MiB): the best that fits on " in shown
    assert "BF16 is larger, but hardly better" in shown
    assert "is here: " in shown
    assert "Load it with %llm_load tiny.Q8_0" in shown
    models = magic(page, "llm_models --all")
    assert "tiny.Q8_0" in set(models["name"])


def test_the_variants_are_a_table(page: InteractiveShell, hub: FakeHub) -> None:
    table = magic(page, "llm_pull org/tiny --list")
    assert table["variant"].tolist() == ["Q4_0", "Q8_0", "BF16"]
    assert table["chosen"].tolist() == [False, True, False]
    assert table["fits"].all()
    assert not hub.requests_to("cdn")


def test_a_variant_by_its_name(page: InteractiveShell) -> None:
    assert magic(page, "llm_pull org/tiny --quant q4_0").path.name == "tiny.Q4_0.gguf"
    assert magic(page, "llm_pull hf.co/org/tiny:bf16").path.name == "tiny.BF16.gguf"


def test_an_interrupt_keeps_what_has_arrived(page: InteractiveShell, hub: FakeHub) -> None:
    hub.rate = MIB // 4

    def interrupt() -> None:
        while hub.sent < MIB // 2:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped, match=r"Stopped at .* MiB of 3 MiB, which are kept\. Run the same"):
        magic(page, "llm_pull org/tiny")
    hub.rate = 0
    magic(page, "llm_pull org/tiny")
    assert hub.sent < 1.2 * len(MODEL)


def test_what_fails_is_one_line(page: InteractiveShell) -> None:
    with pytest.raises(DownloadError, match="no such repository, or it is private") as caught:
        magic(page, "llm_pull org/none")
    assert "\n" not in str(caught.value)


def test_deleting_asks_first(page: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = magic(page, "llm_pull org/tiny").path
    asked: list[str] = []

    def refuse(question: str) -> str:
        asked.append(question)
        return ""

    monkeypatch.setattr("builtins.input", refuse)
    magic(page, "llm_delete tiny.Q8_0")
    assert asked == ["Delete tiny.Q8_0 (1 file, frees 3 MiB)? [y/N] "]
    assert path.exists()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    magic(page, "llm_delete tiny.Q8_0")
    assert not path.exists()


def test_deleting_where_nobody_can_be_asked(
    page: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = magic(page, "llm_pull org/tiny").path

    def no_input(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", no_input)
    with pytest.raises(UsageError, match=r"%llm_delete tiny\.Q8_0 --yes deletes it \(3 MiB\)"):
        magic(page, "llm_delete tiny.Q8_0")
    magic(page, "llm_delete tiny.Q8_0 --yes")
    assert not path.exists()


def test_what_no_pull_brought_is_not_deleted(page: InteractiveShell, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(MODEL)
    with pytest.raises(DownloadError, match="not downloaded by %llm_pull, so it is not deleted"):
        magic(page, "llm_delete own --yes")
    assert own.exists()


def test_progress_in_words() -> None:
    progress = PullProgress(
        phase="downloading",
        file="x.gguf",
        number=1,
        count=2,
        received_bytes=25 * MIB,
        total_bytes=100 * MIB,
        bytes_per_second=5e6,
    )
    assert progress_words(progress) == (
        "x.gguf (1 of 2) ██████░░░░░░░░░░░░░░░░░░ 25% · 25 MiB of 100 MiB · 5.0 MB/s · 16 s left"
    )
