"""DataFrames through a vendor's batch API: the function, the cell, an interrupt, cancelling."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

import nbllm
from nbllm import GenerationOptions, ModelManager
from nbllm.batches.vendor_api import watch
from nbllm.cloud.cloud_model import CloudModel, unchecked_model
from nbllm.core.api_keys import PERMISSIONS_VARIABLE
from nbllm.core.types import ModelInfo
from nbllm.notebook import extension as magics
from nbllm.notebook.loop import run

from ...batches.vendor_servers import OpenAI

DF = pd.DataFrame({"text": ["one", "two", None, "three"]})


@pytest.fixture
def vendor() -> OpenAI:
    return OpenAI()


@pytest.fixture
def info(vendor: OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelInfo]:
    monkeypatch.setenv("BATCH_TEST_KEY", "test-key")
    monkeypatch.setattr(watch, "_FIRST_PAUSE", 0.01)
    monkeypatch.chdir(tmp_path)
    with vendor.running() as url:
        address = url.removesuffix("/v1")
        monkeypatch.setenv(PERMISSIONS_VARIABLE, f"BATCH_TEST_KEY@{address}")
        yield ModelInfo(
            name="gpt-4o-mini",
            model_type="openai",
            local=False,
            base_url=url,
            api_key_env="BATCH_TEST_KEY",
            options=GenerationOptions(max_retry_seconds=0.01),
        )


@pytest.fixture
def model(info: ModelInfo) -> Iterator[CloudModel]:
    model = unchecked_model(info)
    yield model
    run(model.aclose())


def test_the_answers_become_a_column(model: CloudModel, vendor: OpenAI) -> None:
    states: list[str] = []
    out = nbllm.map_frame(
        DF,
        "{text}",
        model=model,
        batch_api=True,
        progress=lambda counted, row: states.append(counted.vendor_state if row is None else ""),
    )
    assert out["answer"].tolist() == ["ONE", "TWO", pd.NA, "THREE"]
    assert "missing" in out["error"].iloc[2]
    assert sum(vendor.prompts.values()) == 3
    assert any("of 3 rows done" in state for state in states)


def test_a_dry_run_asks_directly_and_tells_half_the_price(
    model: CloudModel, vendor: OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    nbllm.map_frame(DF, "{text}", model=model, batch_api=True, dry_run=True, max_failures=1.0)
    assert "up to a day" in capsys.readouterr().out
    assert not vendor.batches


def test_an_interrupt_says_what_goes_on_and_cancel_ends_it(
    model: CloudModel, vendor: OpenAI
) -> None:
    vendor.polls = 10**9

    def interrupt() -> None:
        while not any(batch.looks > 1 for batch in vendor.batches.values()):  # one was answered
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match=r"OpenAI batch_0: in_progress.*cancel_batch=True"):
        nbllm.map_frame(DF, "{text}", model=model, batch_api=True)
    assert [batch.ending for batch in vendor.batches.values()] == [""]
    out = nbllm.map_frame(DF, "{text}", model=model, cancel_batch=True)
    assert [batch.ending for batch in vendor.batches.values()] == ["cancelled"]
    assert out["answer"].tolist() == ["ONE", pd.NA, pd.NA, "THREE"]
    assert "cancelled" in out["error"].iloc[1]
    vendor.polls = 1
    out = nbllm.map_frame(DF, "{text}", model=model, batch_api=True)
    assert out["answer"].tolist() == ["ONE", "TWO", pd.NA, "THREE"]
    assert vendor.prompts == {"one": 1, "two": 2, "three": 1}


@pytest.fixture
def notebook(
    shell: InteractiveShell, info: ModelInfo, tmp_path: Path
) -> Iterator[InteractiveShell]:
    manager = ModelManager([info], folder=tmp_path)
    magics.load(shell, lambda: manager)
    shell.user_ns["df"] = DF
    yield shell
    run(manager.aclose())


def test_a_cell_does_the_same(notebook: InteractiveShell, vendor: OpenAI) -> None:
    notebook.run_cell("%%llm gpt-4o-mini --map df --batch-api -o out\n{text}").raise_error()
    assert notebook.user_ns["out"]["answer"].tolist() == ["ONE", "TWO", pd.NA, "THREE"]
    notebook.run_cell("%%llm gpt-4o-mini --map df --batch-api -o again\n{text}").raise_error()
    assert notebook.user_ns["again"]["answer"].tolist() == ["ONE", "TWO", pd.NA, "THREE"]
    assert sum(vendor.prompts.values()) == 3


def test_the_flags_need_a_table(
    notebook: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run_cell("%%llm gpt-4o-mini --batch-api\nHi")
    assert "--batch-api needs --map DF" in capsys.readouterr().err
