"""Vectors and scores of real and tiny models, in real workers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from nbllm.core.budgets.budget import Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.errors import ContextLengthError, InvalidOptionError, UnsupportedError
from nbllm.core.types import TextDelta
from nbllm.local.llama_cpp_model import LlamaCppModel

WIDTH, LAYERS, LONGEST, TOKENS = 64, 2, 96, 300
TEXTS = ["a", "b c", "a much longer text than the others", "b c", "ü€😀", "z" * 80]


def write_reader(path: Path, pooling: gguf.PoolingType, **keys: bool) -> Path:
    """A BERT with random weights that knows bytes and numbers; a reranker where it ranks."""
    random = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(LONGEST)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("llama")
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    texts += [f"▁{number}" for number in range(TOKENS - len(texts))]
    writer.add_token_list(texts)
    writer.add_token_scores([-float(number) for number in range(TOKENS)])
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (TOKENS - len(kinds)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_sep_token_id(2)
    writer.add_add_eos_token(True)

    def tensor(name: str, *shape: int) -> None:
        writer.add_tensor(
            name, random.normal(0, 1 if "norm.weight" in name else 0.3, shape).astype(np.float32)
        )

    tensor("token_embd.weight", TOKENS, WIDTH)
    tensor("token_types.weight", 2, WIDTH)
    tensor("position_embd.weight", LONGEST, WIDTH)
    if pooling == gguf.PoolingType.RANK:
        tensor("cls.output.weight", 1, WIDTH)
        tensor("cls.output.bias", 1)
    norms = ["token_embd_norm"]
    for block in (f"blk.{number}" for number in range(LAYERS)):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"{block}.{name}.weight", WIDTH, WIDTH)
            tensor(f"{block}.{name}.bias", WIDTH)
        tensor(f"{block}.ffn_up.weight", 2 * WIDTH, WIDTH)
        tensor(f"{block}.ffn_up.bias", 2 * WIDTH)
        tensor(f"{block}.ffn_down.weight", WIDTH, 2 * WIDTH)
        tensor(f"{block}.ffn_down.bias", WIDTH)
        norms += [f"{block}.attn_output_norm", f"{block}.layer_output_norm"]
    for norm in norms:
        tensor(f"{norm}.weight", WIDTH)
        tensor(f"{norm}.bias", WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


@pytest.fixture(scope="module")
def reader(load: Any, folder: Path) -> LlamaCppModel:
    model: LlamaCppModel = load(write_reader(folder / "mean.gguf", gguf.PoolingType.MEAN))
    return model


@pytest.fixture(scope="module")
def ranker(load: Any, folder: Path) -> LlamaCppModel:
    model: LlamaCppModel = load(write_reader(folder / "rank.gguf", gguf.PoolingType.RANK))
    return model


async def test_vectors_of_a_batch_are_those_of_each_text_alone(reader: LlamaCppModel) -> None:
    together = (await reader.embed(TEXTS * 5)).vectors
    assert together.shape == (len(TEXTS) * 5, WIDTH)
    alone = [(await reader.embed(text)).vectors[0] for text in TEXTS]
    assert together == pytest.approx(np.tile(np.stack(alone), (5, 1)), abs=2e-3)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(together)), abs=2e-3)


async def test_vectors_are_as_the_model_gives_them_on_request(reader: LlamaCppModel) -> None:
    raw = (await reader.embed(TEXTS, normalize=False)).vectors
    lengths = np.linalg.norm(raw, axis=1)
    assert abs(lengths - 1).max() > 0.1
    assert raw / lengths[:, None] == pytest.approx((await reader.embed(TEXTS)).vectors, abs=1e-6)


async def test_the_files_own_pooling_counts(load: Any, folder: Path, reader: LlamaCppModel) -> None:
    first = load(write_reader(folder / "cls.gguf", gguf.PoolingType.CLS))
    cls, mean = (await first.embed("a b")).vectors, (await reader.embed("a b")).vectors
    assert cls.shape == mean.shape
    assert abs(cls - mean).max() > 0.01


async def test_a_model_that_only_reads_says_so(
    reader: LlamaCppModel, ranker: LlamaCppModel
) -> None:
    with pytest.raises(UnsupportedError, match=r"embedding model; use model\.embed"):
        await reader.generate("Hi")
    with pytest.raises(UnsupportedError, match=r"reranker; use model\.rerank"):
        await ranker.generate("Hi")


async def test_a_text_longer_than_the_model_was_trained_on_is_refused(
    reader: LlamaCppModel,
) -> None:
    with pytest.raises(ContextLengthError, match=r"text 2 has 105 tokens.* at most 96") as caught:
        await reader.embed(["short", "x" * 100])
    assert (caught.value.prompt_tokens, caught.value.context_length) == (105, 96)


async def test_a_reranker_scores_each_document(ranker: LlamaCppModel) -> None:
    scores = await ranker.rerank("query", TEXTS[:4])
    assert len(scores) == 4
    assert scores[1] == pytest.approx(scores[3], abs=2e-3), "the same document"
    assert abs(scores[0] - scores[2]) > 1e-3
    assert await ranker.rerank("another", TEXTS[:1]) != pytest.approx(scores[:1], abs=1e-4)
    assert await ranker.rerank("query", []) == ()
    with pytest.raises(UnsupportedError, match=r"use model\.rerank"):
        await ranker.embed("a")
    with pytest.raises(InvalidOptionError, match="list of strings"):
        await ranker.rerank("query", "document")


async def test_a_reranker_spends_the_tokens_that_it_read(ranker: LlamaCppModel) -> None:
    budgets = Budgets(Budget(tokens=5_000))
    ranker.spend_from(budgets)
    await ranker.rerank("query", ["abc", "a"])
    spent = budgets.statuses()[0].spent
    ranker.spend_from(Budgets())
    assert spent.requests == 1
    assert 10 <= spent.tokens <= 40


async def test_other_models_rank_nothing(model: LlamaCppModel) -> None:
    with pytest.raises(UnsupportedError, match="not a reranker"):
        await model.rerank("query", ["document"])


async def test_embedding_holds_up_neither_answers_nor_cancels(model: LlamaCppModel) -> None:
    texts = ["The quick brown fox jumps over the lazy dog. " * 10] * 40
    embedding = asyncio.create_task(model.embed(texts))
    await asyncio.sleep(0.2)
    pieces = [
        event.text
        async for event in model.stream("Count to ten.", max_tokens=8, temperature=0)
        if isinstance(event, TextDelta)
    ]
    assert pieces
    assert not embedding.done(), "the answer came first"
    embedding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await embedding
    assert (await model.embed("after")).vectors.shape == (1, 576)
