from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.fit_options import Fit, FitOption
from nbllm.core.fitting.planned_load import CPU
from nbllm.core.model_manager import ModelManager
from nbllm.core.openers import fit_model
from nbllm.core.placement import MemoryParts, Placement
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.words import size_words
from nbllm.notebook import extension as magics
from nbllm.notebook.models.fit_tables import fit_table
from nbllm.notebook.status_messages import ready_words
from nbllm.notebook.tables import models_table
from nbllm.testing import fake_info

MIB = 2**20


@pytest.fixture
def fitting(shell: InteractiveShell, bundled_gguf: Path) -> InteractiveShell:
    """The magics over the bundled model, a model of a cloud, and a file that is not there."""
    infos = [
        fake_info("small", path=bundled_gguf),
        fake_info("cloud", local=False),
        fake_info("gone", path=bundled_gguf / "none.gguf"),
    ]
    manager = ModelManager(infos)
    magics.load(shell, lambda: manager)
    return shell


def test_every_way_to_load_with_its_memory_and_nothing_loaded(fitting: InteractiveShell) -> None:
    table: Any = fitting.run_line_magic("llm_fit", "small")
    assert {"CPU"} <= set(table["device"])
    assert set(table["KV cache type"]) == {"f16", "q8_0", "q4_0"}
    on_cpu = table[(table["device"] == "CPU") & (table["KV cache type"] == "f16")]
    assert on_cpu["context (tokens)"].tolist() == [2048, 4096, 8192]
    assert on_cpu["KV cache (MiB)"].tolist() == [45, 90, 180]
    assert on_cpu["memory (MiB)"].is_monotonic_increasing
    names = ["weights", "KV cache", "compute", "overhead"]
    parts = on_cpu[[f"{name} (MiB)" for name in names]].sum(axis=1)
    assert parts.tolist() == pytest.approx(on_cpu["memory (MiB)"].tolist())
    assert table.attrs["notes"][0].startswith("%llm_load would use")
    assert ">yes<" in table._repr_html_()


def test_only_local_models_whose_files_are_there(fitting: InteractiveShell) -> None:
    with pytest.raises(UsageError, match="cloud is not a local model"):
        fitting.run_line_magic("llm_fit", "cloud")
    with pytest.raises(ModelFileError):
        fitting.run_line_magic("llm_fit", "gone")


def test_devices_have_columns_of_their_own_and_what_does_not_fit_is_said() -> None:
    memory = {
        CPU: MemoryParts(weights=10 * MIB, compute=5 * MIB, overhead=MIB),
        "GPU 0": MemoryParts(weights=90 * MIB, kv=40 * MIB, compute=4 * MIB),
    }
    free = {CPU: 500 * MIB, "GPU 0": 100 * MIB}
    option = FitOption("GPU 0", 31, 8192, "q8_0", memory, free, fits=False)
    table = fit_table(Fit((option,), None, 31))
    row = table.iloc[0]
    assert (row["CPU (MiB)"], row["GPU 0 (MiB)"], row["layers on GPUs"]) == (16, 134, 31)
    assert not row["fits"]
    assert "None of these fits" in table.attrs["notes"][0]
    assert "100 MiB on GPU 0" in table.attrs["notes"][1]
    assert ">no<" in table._repr_html_()
    chosen = Placement(
        device=CPU,
        memory={CPU: MemoryParts()},
        context_length=1,
        parallel=1,
        threads=1,
        batch_threads=1,
        explain=lambda _: "Because.",
    )
    assert fit_table(Fit((option,), chosen, 31)).attrs["notes"][0].endswith("CPU: Because.")


@pytest.mark.parametrize("wish", [{}, {"context_length": 2048, "kv_type": "q8_0"}], ids=str)
async def test_one_figure_for_the_memory_of_a_model(bundled_gguf: Path, wish: Any) -> None:
    """The plan, the refusal, the listings and the load line: the same bytes, the same word."""
    info = fake_info("small", path=bundled_gguf, context_length=8192, source="bundled")
    async with ModelManager([info]) as manager:
        model, loaded = await manager.load_model("small", **wish)
        (status,) = manager.list_statuses()
        options = fit_table(fit_model(info, ResourceDetector().detect()))
        context, kv_type = loaded.placement.context_length, loaded.placement.kv_type
        row = options[
            (options["device"] == loaded.device)
            & (options["context (tokens)"] == context)
            & (options["KV cache type"] == kv_type)
        ].iloc[0]
        words = size_words(loaded.placement.total_bytes)
        assert size_words(loaded.memory_bytes) == size_words(model.info.memory_bytes) == words
        assert models_table([status], []).loc[0, "memory (MiB)"] == row["memory (MiB)"]
        assert f"memory {words}" in ready_words(loaded)
        assert f"needs {words} of memory" in loaded.placement.reason
