"""Tuning: the measure of fidelity, the choice, and what later loads do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbllm import ModelManager
from nbllm.core.measurements import Benchmark, Measurement, Tuned, tuned_folder, write_tuned
from nbllm.core.quantization import Quality, TunedType, best_type, pareto
from nbllm.local.jobs import tune
from nbllm.local.jobs.quality import References, compare, log_softmax, quality_of
from nbllm.local.measuring.bench import BenchPlan

BRIEF = BenchPlan(
    threads=(2,),
    sequences=(),
    prompt_tokens=16,
    answer_tokens=2,
    rounds=1,
    seconds=2.0,
)


def row(label: str, changed: float, decode: float, divergence: float) -> TunedType:
    speeds = tuple(
        Measurement(kind=kind, threads=1, batch=1, sequences=1, tokens_per_second=speed)
        for kind, speed in (("prefill", 100.0), ("decode", decode))
    )
    quality = Quality(
        tokens=100,
        mean_divergence=divergence,
        divergence_error=0.0,
        divergence_999=0.0,
        same_first=1 - changed,
    )
    return TunedType(
        label=label,
        size_bytes=1,
        bits_per_weight=4.0,
        quality=quality if changed else None,
        benchmark=Benchmark(measured=speeds, other_cores=0.0, noisy=False),
    )


SOURCE, NEAR, FAST = row("F16", 0, 10, 0), row("Q8_0", 0.01, 15, 0.001), row("Q2_K", 0.3, 20, 0.5)
SLOW = row("Q5_1", 0.02, 9, 0.01)
ROWS = [SOURCE, NEAR, FAST, SLOW]


@pytest.mark.parametrize(
    ("most", "best"), [(0.0, SOURCE), (0.01, NEAR), (0.2, NEAR), (0.3, FAST), (1.0, FAST)]
)
def test_the_fastest_within_the_rule_is_chosen(most: float, best: TunedType) -> None:
    assert best_type(ROWS, most + 1e-9) is best


def test_the_pareto_front_leaves_out_what_is_worse_in_both() -> None:
    assert pareto(ROWS) == [SOURCE, NEAR, FAST]


def test_the_divergence_is_that_of_the_formula(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    p, q = (generator.normal(scale=3, size=(50, 1000)).astype(np.float32) for _ in range(2))
    references = References(tmp_path / "references", 1000)
    references.write(p)
    found = quality_of(
        compare(kept, other) for kept, other in zip(references.read(), q, strict=True)
    )
    exact = []
    for one, other in zip(p.astype(float), q.astype(float), strict=True):
        a, b = one - np.logaddexp.reduce(one), other - np.logaddexp.reduce(other)
        exact.append(float(np.sum(np.exp(a) * (a - b))))
    assert found.tokens == 50
    assert found.mean_divergence == pytest.approx(np.mean(exact), rel=1e-3)
    assert found.divergence_error == pytest.approx(np.std(exact, ddof=1) / 50**0.5, rel=1e-3)
    assert found.divergence_999 == pytest.approx(np.quantile(exact, 0.999), rel=1e-3)
    assert found.same_first == np.mean(p.argmax(axis=1) == q.argmax(axis=1))


def test_a_distribution_does_not_diverge_from_itself() -> None:
    logits = np.array([3.0, -200.0, 1.0, 2.0], np.float32)
    assert compare(log_softmax(logits), logits).divergence == 0
    assert compare(log_softmax(logits), logits).same_first


async def test_later_loads_use_what_was_found(
    bundled_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "QUIET_CORES", 99)
    monkeypatch.setattr(tune._Work, "_plan", lambda work, load: BRIEF)
    conversation: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
    monkeypatch.setattr(tune, "SAMPLE_CONVERSATIONS", (conversation,))
    # The source is measured as slow, so that the other one is chosen.
    monkeypatch.setattr(TunedType, "request_seconds", property(lambda one: bool(not one.quality)))
    manager = ModelManager(folder=tmp_path)
    told: list[float] = []
    tuning = await manager.tune_model(
        "SmolLM2", types=["q8_0", "Q8"], max_changed=1, report=lambda what, done: told.append(done)
    )
    assert [one.label for one in tuning.types] == ["Q4_1", "Q8_0"]
    assert tuning.best.label == "Q8_0"
    assert tuning.best.quality is not None
    assert tuning.best.quality.mean_divergence < 0.1
    assert told == sorted(told)
    assert tuning.path.is_relative_to(tuned_folder())
    async with manager:
        _, info = await manager.load_model("SmolLM2", context_length=512)
        assert info.name == "SmolLM2-135M-Instruct.Q4_1"
        assert info.path == tuning.path
        assert info.tuned_from == bundled_gguf
    assert manager.untune_model("SmolLM2")
    assert not tuning.path.exists()
    assert not manager.untune_model("SmolLM2")


def test_a_tuned_file_that_is_gone_or_changed_is_not_used(
    bundled_gguf: Path, tmp_path: Path
) -> None:
    manager = ModelManager(folder=tmp_path)
    cpu, other = manager.detect_resources().cpu, tmp_path / "x.gguf"
    other.write_bytes(b"1234")
    write_tuned(bundled_gguf, cpu, Tuned(label="Q8_0", path=other, size_bytes=4))
    assert manager._entry("SmolLM2").path == other
    other.write_bytes(b"12345")
    assert manager._entry("SmolLM2").path == bundled_gguf
    other.unlink()
    assert manager._entry("SmolLM2").path == bundled_gguf
    write_tuned(bundled_gguf, cpu, None)
