"""The store of measured settings: what is kept, found again, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbllm.core.hardware.resources import CpuInfo
from nbllm.core.measurements import (
    Benchmark,
    ContextMeasurement,
    Measurement,
    MeasurementKind,
    best_context,
    best_threads,
    read_context,
    read_threads,
    write_measured,
)
from nbllm.core.placement import ContextSettings


def speed(
    kind: MeasurementKind, threads: int, tokens_per_second: float, sequences: int = 1
) -> Measurement:
    return Measurement(
        kind=kind,
        threads=threads,
        batch=512 if kind == "prefill" else sequences,
        sequences=sequences,
        tokens_per_second=tokens_per_second,
    )


def cpu(cores: float = 8) -> CpuInfo:
    return CpuInfo(
        model="A CPU",
        architecture="x86_64",
        sockets=1,
        physical_cores=8,
        logical_cores=8,
        usable_cores=cores,
    )


MEASURED = [
    speed("prefill", 1, 100),
    speed("prefill", 4, 400),
    speed("decode", 1, 50),
    speed("decode", 2, 80),
    speed("decode", 4, 80.5),
    speed("decode", 8, 400, sequences=8),
]


def context(
    flash_attention: bool,
    batch: int,
    prefill: float,
    decode: float,
) -> ContextMeasurement:
    return ContextMeasurement(
        settings=ContextSettings(flash_attention, batch),
        behind=512,
        prefill=prefill,
        decode=decode,
    )


CONTEXTS = (
    context(False, 128, 250, 60),
    context(False, 512, 230, 60),
    context(True, 512, 270, 40),
)


def benchmark(
    rows: list[Measurement],
    *,
    noisy: bool = False,
    contexts: tuple[ContextMeasurement, ...] = (),
) -> Benchmark:
    return Benchmark(measured=tuple(rows), other_cores=2.0 * noisy, noisy=noisy, contexts=contexts)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_of_counts_that_are_as_fast_the_least_is_best() -> None:
    assert best_threads(MEASURED) == (2, 4)


def test_the_settings_of_a_context_are_those_of_the_shortest_request() -> None:
    assert best_context(CONTEXTS) == (False, 128)
    assert best_context([*CONTEXTS, context(True, 512, 500, 59)]) == (True, 512)
    assert best_context([*CONTEXTS, context(True, 512, 255, 63)]) == (False, 128), "no faster"
    assert best_context(()) is None


def test_settings_of_a_context_are_kept_and_outlast_a_benchmark_without_them(
    model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "measured.json"
    write_measured(model, cpu(), benchmark(MEASURED), file=file)
    assert read_context(model, cpu(), file=file) is None
    write_measured(model, cpu(), benchmark(MEASURED, contexts=CONTEXTS[2:]), file=file)
    assert read_context(model, cpu(), file=file) == (True, 512)
    write_measured(model, cpu(), benchmark(MEASURED), file=file)
    write_measured(model, cpu(), benchmark(MEASURED, noisy=True, contexts=CONTEXTS), file=file)
    assert read_context(model, cpu(), file=file) == (True, 512)
    assert read_context(model, cpu(cores=2), file=file) is None
    for damaged in ("1", '{"batch_tokens": 0}', '{"batch_tokens": true}', "{}", "null"):
        text = file.read_text().replace('"context": {', '"before": {', 1)
        end = text.rindex('"before"')
        file.write_text(f'{text[:end]}"context": {damaged}, {text[end:]}')
        assert read_context(model, cpu(), file=file) is None
        write_measured(model, cpu(), benchmark(MEASURED, contexts=CONTEXTS[2:]), file=file)


def test_what_is_kept_is_found_again_for_the_same_file_and_machine(
    model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cache" / "measured.json"
    write_measured(model, cpu(), benchmark(MEASURED), file=file)
    assert read_threads(model, cpu(), file=file) == (2, 4)
    assert read_threads(model, cpu(cores=2), file=file) is None
    model.write_bytes(b"another file of this name")
    assert read_threads(model, cpu(), file=file) is None


def test_a_noisy_result_is_kept_as_such_and_no_load_goes_by_it(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    write_measured(model, cpu(), benchmark(MEASURED[:3], noisy=True), file=file)
    assert read_threads(model, cpu(), file=file) is None
    assert '"other_cores": 2.0' in file.read_text()
    write_measured(model, cpu(), benchmark(MEASURED), file=file)
    assert "noisy" not in file.read_text(), "a quiet one is better in every way"
    write_measured(model, cpu(), benchmark(MEASURED[:3], noisy=True), file=file)
    assert read_threads(model, cpu(), file=file) == (2, 4)


def test_other_models_and_machines_stay(model: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "measured.json", tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    write_measured(model, cpu(), benchmark(MEASURED), file=file)
    write_measured(model, cpu(cores=2), benchmark(MEASURED[:3]), file=file)
    write_measured(other, cpu(), benchmark(MEASURED), file=file)
    assert read_threads(model, cpu(), file=file) == (2, 4)
    assert read_threads(model, cpu(cores=2), file=file) == (1, 4)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "machines": {}}',
        '{"version": 1, "machines": 3}',
        '{"version": 1, "machines": {"A CPU, 8 of 8 cores": 3}}',
        '{"version": 1, "machines": {"A CPU, 8 of 8 cores": {"model.gguf, 4 bytes": 1}}}',
        '{"version": 1, "machines": {"A CPU, 8 of 8 cores":'
        ' {"model.gguf, 4 bytes": {"best": {"decode": 0, "batch": 1}}}}}',
    ],
)
def test_a_damaged_store_counts_as_not_measured_and_is_written_anew(
    content: str, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "measured.json"
    file.write_text(content)
    assert read_threads(model, cpu(), file=file) is None
    write_measured(model, cpu(), benchmark(MEASURED), file=file)
    assert read_threads(model, cpu(), file=file) == (2, 4)


def test_a_crash_while_writing_leaves_the_old_store(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "measured.json"
    write_measured(model, cpu(), benchmark(MEASURED), file=file)
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_measured(model, cpu(), benchmark(MEASURED[:3]), file=file)
    assert read_threads(model, cpu(), file=file) == (2, 4)
    assert [entry.name for entry in tmp_path.glob("*measured*")] == ["measured.json"]
