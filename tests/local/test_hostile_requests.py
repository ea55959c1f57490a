"""Requests that nobody can have meant, to a model in its worker: typed errors, and all goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbllm import ModelManager
from nbllm.core.errors import ContextLengthError, EngineError, InvalidOptionError, NbllmError
from nbllm.core.messages import Message, ToolCall, ToolResult
from nbllm.core.openers import LoadControl, describe_file, plan_model
from nbllm.core.options import GenerationOptions, Tool
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model
from nbllm.local.measuring.bench import BenchPlan, measure_model
from nbllm.local.measuring.dry_runs import exact_placement

HALF = json.loads('"12 \\ud83d 34"')
SECONDS = 30


@pytest.fixture(scope="module")
def info(tiny_models: dict[str, Path]) -> ModelInfo:
    return ModelInfo(
        name="tiny",
        model_type="llama",
        local=True,
        path=tiny_models["mistral"],
        load=LoadOptions(context_length=1024),
        options=GenerationOptions(max_tokens=2, ignore_eos=True, stall_timeout=20),
    )


@pytest.fixture(scope="module")
def model(info: ModelInfo) -> Iterator[LlamaCppModel]:
    model = open_model(info, LoadControl())
    yield model
    model.kill()


Ask = Callable[[LlamaCppModel], Awaitable[Any]]
MENDED: dict[str, Ask] = {
    "prompt": lambda model: model.generate(HALF),
    "system": lambda model: model.generate("12", system=HALF),
    "stop": lambda model: model.generate("12", stop=HALF),
    "stop tokens": lambda model: model.generate("12", logit_bias={HALF: 1.0}),
    "description": lambda model: model.count_tokens(
        [Message("user", "12"), Message("assistant", (ToolCall("1", HALF, HALF),))]
    ),
    "result": lambda model: model.count_tokens(
        [Message("user", "12"), Message("tool", (ToolResult("1", HALF, HALF),))]
    ),
    "tokenize": lambda model: model.tokenize(HALF),
    "count": lambda model: model.count_tokens(HALF, system=HALF),
    "embed": lambda model: model.embed([HALF, "12"]),
}
REFUSED: dict[str, Ask] = {
    "grammar": lambda model: model.generate("12", grammar=f'root ::= "{HALF}"'),
    "schema": lambda model: model.generate("12", response_schema={"const": HALF}),
    "key": lambda model: model.generate("12", response_schema={"properties": {HALF: {}}}),
    "huge": lambda model: model.generate("12", response_schema={"const": 10**5000}),
    "max_tokens": lambda model: model.generate("12", max_tokens=10**5000),
    "nan": lambda model: model.embed(["12", float("nan")]),  # type: ignore[list-item]
    "number": lambda model: model.embed(["12", 5]),  # type: ignore[list-item]
    "none": lambda model: model.tokenize(None),  # type: ignore[arg-type]
    "bytes": lambda model: model.tokenize(b"12"),  # type: ignore[arg-type]
    "texts": lambda model: model.detokenize(["12"]),  # type: ignore[list-item]
    "one text": lambda model: model.detokenize("12"),  # type: ignore[arg-type]
    "huge token": lambda model: model.detokenize([10**5000]),
    "negative token": lambda model: model.detokenize([-1]),
    "half a token": lambda model: model.detokenize([1.5]),  # type: ignore[list-item]
    "grammar of another type": lambda model: model.generate("12", grammar=5),
    "prompt of another type": lambda model: model.generate(5),  # type: ignore[arg-type]
    "options of another type": lambda m: m.generate("12", options={}),  # type: ignore[arg-type]
    "system of another type": lambda m: m.generate("12", system=5),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("ask", MENDED.values(), ids=MENDED)
async def test_half_characters_in_text_are_mended(model: LlamaCppModel, ask: Ask) -> None:
    await asyncio.wait_for(ask(model), SECONDS)


async def test_they_become_the_sign_of_a_replacement(model: LlamaCppModel) -> None:
    tokens = await model.tokenize(HALF)
    assert await model.detokenize(tokens) == await model.detokenize(
        await model.tokenize("12 \ufffd 34")
    )


@pytest.mark.parametrize("ask", REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_meant_is_refused_and_the_model_goes_on(
    model: LlamaCppModel, ask: Ask
) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        await asyncio.wait_for(ask(model), SECONDS)
    str(caught.value).encode()
    assert (await model.generate("12")).usage.completion_tokens == 2


async def test_a_column_with_numpys_values_is_embedded_or_refused(model: LlamaCppModel) -> None:
    assert len((await model.embed(np.array(["12", "34"]))).vectors) == 2  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match=r"text 2.*Drop missing values"):
        await model.embed(np.array(["12", None], object))  # type: ignore[arg-type]
    assert await model.detokenize(np.array([300])) == await model.detokenize([300])  # type: ignore[arg-type]


async def test_what_changed_after_the_door_is_told_by_the_sender(model: LlamaCppModel) -> None:
    tool = Tool("f", "", {"type": "object"})
    tool.parameters["self"] = tool.parameters  # type: ignore[index]
    with pytest.raises(NbllmError) as caught:
        await asyncio.wait_for(model.generate("12", tools=[tool]), SECONDS)
    assert isinstance(caught.value, EngineError | InvalidOptionError)
    assert model.usable


async def test_a_prompt_of_megabytes_is_refused_at_once(model: LlamaCppModel) -> None:
    with pytest.raises(ContextLengthError, match="too many"):
        await asyncio.wait_for(model.generate("no token of it " * 200_000), SECONDS)


CALLS = ["", "[" * 100_000, "1" * 5000, '{"a":NaN}', '"\\ud83d"', "{", '{"a": 1}', "\ud83d"]


@pytest.mark.parametrize("arguments", CALLS, ids=len)
async def test_arguments_of_calls_are_sent_whatever_they_are(
    model: LlamaCppModel, arguments: str
) -> None:
    turns = [Message("user", "12"), Message("assistant", (ToolCall("1", "f", arguments),))]
    assert (await asyncio.wait_for(model.count_tokens(turns), SECONDS)).tokens > 0


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.builds(lambda: 10**5000)
    | st.floats()
    | st.binary(max_size=5)
    | st.text(st.characters(codec=None), max_size=10)
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "tool", 5]), "content": inner})
    ),
    max_leaves=10,
)
METHODS: dict[str, Callable[[LlamaCppModel, Any], Awaitable[Any]]] = {
    "generate": lambda model, value: model.generate(value),
    "system": lambda model, value: model.generate("12", system=value),
    "options": lambda model, value: model.generate("12", options=value),
    "count": lambda model, value: model.count_tokens(value),
    "tokenize": lambda model, value: model.tokenize(value),
    "detokenize": lambda model, value: model.detokenize(value),
    "embed": lambda model, value: model.embed(value),
    "rerank": lambda model, value: model.rerank(value, value),
    "stop": lambda model, value: model.generate("12", stop=value),
    "stop_tokens": lambda model, value: model.generate("12", stop_tokens=value),
    "logit_bias": lambda model, value: model.generate("12", logit_bias=value),
    "grammar": lambda model, value: model.generate("12", grammar=value),
    "tools": lambda model, value: model.generate("12", tools=value),
    "tool_choice": lambda model, value: model.generate("12", tool_choice=value),
    "adapters": lambda model, value: model.generate("12", adapters=value),
    "temperature": lambda model, value: model.generate("12", temperature=value),
    "max_tokens": lambda model, value: model.generate("12", max_tokens=value),
}


@given(st.sampled_from([*METHODS]), ANYTHING)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_is_asked_ends_in_an_answer_or_a_typed_error(
    model: LlamaCppModel, name: str, value: Any
) -> None:
    async def ask() -> None:
        try:
            await asyncio.wait_for(METHODS[name](model, value), SECONDS)
        except NbllmError as error:
            str(error).encode()
        assert model.usable

    asyncio.run(ask())


# -------------------------------------------------------------------------------- names of files

ODD = os.fsdecode(b"caf\xe9.gguf")
odd_names = pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8 here")


@pytest.fixture
def odd(info: ModelInfo, tmp_path: Path) -> ModelInfo:
    assert info.path is not None
    shutil.copy(info.path, tmp_path / ODD)
    return replace(info, name="odd", path=tmp_path / ODD)


@odd_names
async def test_a_file_whose_name_is_not_utf_8_loads(odd: ModelInfo) -> None:
    assert odd.path is not None
    async with ModelManager(folder=odd.path.parent) as manager:
        (found,) = [each for each in manager.list_available_models() if each.source == "found"]
        found.name.encode()
        model, _ = await manager.load_model(odd.path)
        assert (await model.generate("12", max_tokens=1)).usage.completion_tokens == 1
        await manager.unload_model(model.name)
        again, _ = await manager.load_model(found.name, draft_model=odd.path)
        assert (await again.generate("12", max_tokens=1)).usage.completion_tokens == 1


@odd_names
async def test_so_it_is_planned_and_measured(odd: ModelInfo) -> None:
    resources = ResourceDetector().detect()
    placement = plan_model(odd, resources)
    assert placement is not None
    exact = exact_placement(odd, placement)
    assert exact is not None
    assert exact.exact
    plan = BenchPlan(
        threads=(1,),
        sequences=(),
        prompt_tokens=4,
        answer_tokens=2,
        rounds=1,
        seconds=5.0,
    )
    assert (await measure_model(odd, resources, plan=plan)).measured


@odd_names
def test_a_missing_one_and_a_damaged_one_are_named(odd: ModelInfo, tmp_path: Path) -> None:
    assert odd.path is not None
    odd.path.write_bytes(odd.path.read_bytes()[:5000])
    for path in (odd.path, tmp_path / os.fsdecode(b"\xff.gguf")):
        with pytest.raises(NbllmError):
            describe_file(path)
