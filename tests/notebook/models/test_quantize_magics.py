"""``%llm_quantize`` and ``%llm_tune`` in a shell; the jobs have tests of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core import openers
from nbllm.core.measurements import Benchmark, Measurement
from nbllm.core.model_manager import ModelManager
from nbllm.core.quantization import Quality, Quantization, Quantized, TunedType, Tuning
from nbllm.notebook import extension as magics
from nbllm.notebook.models.speed_tables import tune_figure, tune_table
from nbllm.testing import FakeOpener, fake_info

PLAN = Quantization(
    label="Q4_K_M",
    size_bytes=50 * 2**20,
    bits_per_weight=4.83,
    tensor_types={"a": "Q5_0", "b": "Q4_K"},
    fallbacks={("Q4_K", "Q5_0"): 1},
)


def typed(label: str, changed: float, decode: float) -> TunedType:
    rows = tuple(
        Measurement(kind=kind, threads=1, batch=1, sequences=1, tokens_per_second=speed)
        for kind, speed in (("prefill", 100.0), ("decode", decode))
    )
    quality = Quality(
        tokens=1500,
        mean_divergence=changed,
        divergence_error=0.01,
        divergence_999=0.5,
        same_first=1 - changed,
    )
    return TunedType(
        label=label,
        size_bytes=2**20,
        bits_per_weight=4.0,
        quality=quality if changed else None,
        benchmark=Benchmark(measured=rows, other_cores=0.0, noisy=False),
    )


def tuning(*, noisy: bool = False, best: int = 1) -> Tuning:
    types = (typed("F16", 0, 10), typed("Q8_0", 0.02, 15), typed("Q2_K", 0.4, 20))
    return Tuning(
        info=fake_info("tiny"),
        types=types,
        max_changed=0.05,
        best=types[best],
        path=Path("/tuned/tiny.Q8_0.gguf"),
        noisy=noisy,
    )


@pytest.fixture
def notebook(shell: InteractiveShell, tmp_path: Path) -> InteractiveShell:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    infos = [
        fake_info("tiny", path=file, quantization="q8_0", size_bytes=100 * 2**20),
        fake_info("gpt", local=False, model_type="openai"),
    ]
    manager = ModelManager(infos, folder=tmp_path, open_model=FakeOpener())
    magics.load(shell, lambda: manager)
    return shell


def test_quantizing_tells_size_fallbacks_and_what_to_type_next(
    notebook: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def quantize(info: Any, label: str, target: Path, resources: Any, **more: Any) -> Any:
        more["on_plan"](PLAN)
        more["progress"](0.5)
        made = fake_info("tiny.Q4_K_M", path=target)
        return Quantized(info=made, source=info, quantization=PLAN, seconds=3.0)

    monkeypatch.setattr(openers, "quantize_model", quantize)
    made = notebook.run_line_magic("llm_quantize", "tiny q4_k_m")
    assert made.info.path.name == "tiny.Q4_K_M.gguf"
    told = capsys.readouterr().out
    assert "Q4_K_M (50 MiB, 4.83 bits/weight), 100 MiB before; 3.0 s." in told
    assert "a larger type for 1 of 2 tensors" in told
    assert "The source was quantized already (Q8_0)" in told
    assert told.rstrip().endswith("Load it with %llm_load tiny.Q4_K_M")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            lambda: tuning(),
            "tiny: Q8_0 is the fastest with at most 5.0% of the likeliest tokens changed (2.0%): "
            "1.50 times the decode speed of F16 and 1.00 times its prefill speed. Later loads on "
            "this machine use it",
        ),
        (lambda: tuning(best=0), "tiny stays as it is (F16): with at most 5.0%"),
        (lambda: tuning(noisy=True), "so nothing was kept; tune again when the machine is quiet."),
    ],
)
def test_tuning_says_what_was_chosen_and_why(
    notebook: InteractiveShell,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: Callable[[], Tuning],
    words: str,
) -> None:
    asked: dict[str, Any] = {}

    async def tune(info: Any, resources: Any, **settings: Any) -> Tuning:
        asked.update(settings)
        settings["report"]("Q8_0", 0.5)
        return found()

    monkeypatch.setattr(openers, "tune_model", tune)
    table = notebook.run_line_magic("llm_tune", "tiny --max-changed 5% --types q8_0,q2_k")
    assert asked["types"] == ["Q8_0", "Q2_K"]
    assert asked["max_changed"] == pytest.approx(0.05)
    assert table["type"].tolist() == ["F16", "Q8_0", "Q2_K"]
    assert words in capsys.readouterr().out


def test_the_table_and_the_figure_name_what_was_chosen() -> None:
    table = tune_table(tuning())
    assert table["chosen"].tolist() == [False, True, False]
    assert table["Pareto"].tolist() == [True, True, True]
    figure = tune_figure(tuning())
    assert figure._repr_png_()[0].startswith(b"\x89PNG"), "a notebook shows it as a picture"
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"F16", "Q8_0", "Q2_K"}


@pytest.mark.parametrize("share", ["200%", "x", "-1", "1.5", ""])
def test_a_share_is_a_share(
    notebook: InteractiveShell, capsys: pytest.CaptureFixture[str], share: str
) -> None:
    notebook.run_cell(f"%llm_tune tiny --max-changed={share!r}")
    assert "is not a share such as 1% or 0.01" in capsys.readouterr().err


def test_what_is_not_tuned_stays(
    notebook: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run_line_magic("llm_tune", "tiny --off")
    assert "tiny was not tuned on this machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("%llm_quantize", "%llm_quantize needs NAME and TYPE; see %llm_quantize?"),
        ("%llm_quantize tiny", "%llm_quantize needs TYPE"),
        ("%llm_quantize q4_0 tiny", "the model comes first: %llm_quantize tiny q4_0"),
        ("%llm_quantize tiny Q8_0", "tiny is Q8_0 already. Choose another type"),
        ("%llm_quantize tiny q9_9", "'q9_9' is not a quantization type"),
        ("%llm_quantize my tiny q4_0", "A name or a path with spaces is written in quotes"),
        ("%llm_quantize gpt q4_0", "gpt runs on a server, and its file is not here"),
        ("%llm_imatrix tiny", "%llm_imatrix needs TEXT"),
        ("%llm_imatrix gpt notes.txt", "gpt runs on a server"),
        ("%llm_imatrix tiny missing.txt", "missing.txt: No such file or directory. Name a text"),
        ("%llm_imatrix tiny empty.txt", "empty.txt is empty; at least 512 tokens are needed"),
        ("%llm_imatrix tiny ~nobody_at_all/x.txt", "text: no home folder for ~nobody_at_all"),
        ('%llm_imatrix tiny ""', "text: the path is empty"),
        ("%llm_quantize tiny q4_0 --to ~nobody_at_all/x", "to: no home folder for ~nobody_at_all"),
        ('%llm_quantize tiny q4_0 --to ""', "to: the path is empty"),
        ("%llm_quantize tiny q4_0 --imatrix ~nobody_at_all/x", "imatrix: no home folder for"),
        ("%llm_pull ~nobody_at_all/x.gguf", "is a path, and what is on this machine"),
        ("%llm_imatrix tiny .", "it is a folder. Name a text file"),
        ("%llm_imatrix tiny /dev/zero", "Name a text file"),
        ("%llm_imatrix tiny notes.txt --chunks 0", "chunks must be between 1 and"),
        ("%llm_tune", "%llm_tune needs NAME"),
        ("%llm_tune gpt", "gpt runs on a server"),
        ("%llm_tune gpt --off", "gpt runs on a server"),
        ("%llm_tune tiny --types q9", "'q9' is not a quantization type"),
        ("%llm_tune tiny --types ,", "has no name in it"),
        ("%llm_tune tiny --imatrix missing", "imatrix: there is no file missing"),
        ("%llm_tune tiny --max-changed 200%", "is not a share such as 1% or 0.01"),
        ("%llm_fit gpt --quants", "gpt is not a local model"),
        ("%llm_delete tiny", "was not downloaded by %llm_pull"),
        ("%llm_pull", "%llm_pull needs NAME"),
        ("%llm_pull tiny", "is on this machine already"),
        ("%llm_pull tiny.gguf", "is on this machine already"),
        ("%llm_pull ./other.gguf", "is a path, and what is on this machine needs no download"),
        ("%llm_tune tiny --off --types q8_0", "--off only goes back to the model's own file"),
        ("%llm_imatrix tiny notes.txt --chunks many", "--chunks must be an integer (got 'many')"),
        ("%llm_quantize tiny q4_0 --imatrix", "--imatrix needs a value; see %llm_quantize?"),
        ("%llm_quantize tiny q4_0 --to a --to b", "--to is given twice; give it once"),
        ("%llm_imatrix tiny notes.txt --to no/x.gguf", "no does not exist; create it"),
        ('%llm_fit ""', "The model's name is empty"),
        ('%llm_bench ""', "The model's name is empty"),
        ("%llm_models tiny", "%llm_models takes flags only; see %llm_models?"),
        ("%llm_pull o/r/x.safetensors", "is not a GGUF, and llama.cpp reads no other format"),
        ("%llm_models --source X", "source must be one of config, bundled, found"),
    ],
)
def test_a_wrong_cell_says_what_to_type(
    notebook: InteractiveShell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cell: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "notes.txt").write_text("notes")
    notebook.run_cell(cell)
    shown = capsys.readouterr()
    assert told in shown.err + shown.out
    assert "Traceback" not in shown.err + shown.out
    assert "Also busy" not in shown.out


def test_a_source_without_models_says_where_it_looked(
    notebook: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "no such"))
    for source in ("ollama", "Ollama"):
        shown = repr(notebook.run_line_magic("llm_models", f"--source {source}"))
        assert shown == f"Ollama: no models; looked in {tmp_path / 'no such'}."
