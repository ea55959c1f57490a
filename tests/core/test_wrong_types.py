"""Values of the wrong type: every public method refuses them, typed, before anything is sent."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from nbllm import ModelManager
from nbllm.core.errors import InvalidOptionError, NbllmError
from nbllm.core.generation_requests import to_messages
from nbllm.core.load_options import LoadOptions
from nbllm.core.messages import (
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    VendorPart,
)
from nbllm.core.options import GenerationOptions, Tool
from nbllm.testing import FakeModel, FakeOpener, fake_info


class Odd:
    """Has nothing that a text, a list or a number has, and cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


NOT_TEXTS: dict[str, Any] = {
    "number": 5,
    "nan": float("nan"),
    "huge": 10**5000,
    "bytes": b"x",
    "bool": True,
    "object": object(),
    "odd": Odd(),
    "class": str,
    "array": np.zeros(2),
    "set": {1, 2},
}
NOT_OPTIONS: dict[str, Any] = {**NOT_TEXTS, "mapping": {"max_tokens": 1}, "text": "max_tokens=1"}
NOT_PROMPTS: dict[str, Any] = {
    **NOT_TEXTS,
    "none": None,
    "empty": [],
    "texts": ["a", "b"],
    "none in it": [None],
    "no role": [{"content": "x"}],
    "unknown role": [{"role": "owner", "content": "x"}],
    "role of another type": [{"role": ["user"], "content": "x"}],
    "content of another type": [{"role": "user", "content": 5}],
    "a part of another type": [{"role": "user", "content": [5]}],
    "a zero in a path": [{"role": "user", "content": [Path("a\0b")]}],
    "endless": itertools.count(),
    "endless messages": itertools.repeat(Message("user", "x")),
}

Options = TypeVar("Options", GenerationOptions, LoadOptions)
Ask = Callable[[FakeModel, Any], Any]
ASKS: dict[str, tuple[Ask, dict[str, Any]]] = {
    "prompt": (lambda model, value: model.generate(value), NOT_PROMPTS),
    "stream": (lambda model, value: model.stream(value), NOT_PROMPTS),
    "many": (lambda model, value: model.generate_many(value, 2), NOT_PROMPTS),
    "count": (lambda model, value: model.count_tokens(value), NOT_PROMPTS),
    "system": (lambda model, value: model.generate("x", system=value), NOT_TEXTS),
    "count system": (lambda model, value: model.count_tokens("x", system=value), NOT_TEXTS),
    "options": (lambda model, value: model.generate("x", options=value), NOT_OPTIONS),
    "options of many": (lambda m, value: m.generate_many("x", 2, options=value), NOT_OPTIONS),
    "options of a gap": (lambda model, value: model.fill("a", "b", options=value), NOT_OPTIONS),
    "prefix": (lambda model, value: model.fill(value, "b"), {**NOT_TEXTS, "none": None}),
    "suffix": (lambda model, value: model.fill("a", value), {**NOT_TEXTS, "none": None}),
    "n": (
        lambda model, value: model.generate_many("x", value),
        {"zero": 0, "text": "2", "float": 2.0, "bool": True, "huge": 10**5000, "none": None},
    ),
    "texts": (
        lambda model, value: model.embed(value),
        {**NOT_TEXTS, "nan in it": ["a", float("nan")], "none in it": ["a", None], "none": None},
    ),
    "an unknown option": (lambda m, value: m.generate("x", **{value: 1}), {"name": "max_token"}),
}


class Filling(FakeModel):
    can_fill = True


@pytest.mark.parametrize(
    ("ask", "value"),
    [
        pytest.param(ask, value, id=f"{name}-{kind}")
        for name, (ask, values) in ASKS.items()
        for kind, value in values.items()
    ],
)
def test_the_wrong_type_is_refused_before_anything_is_sent(ask: Ask, value: Any) -> None:
    model = Filling()

    async def whole() -> None:
        await ask(model, value)

    with pytest.raises(InvalidOptionError) as caught:
        asyncio.run(whole())
    assert len(str(caught.value)) < 400
    str(caught.value).encode()
    assert model.requests == []


HOSTILE_OPTIONS: dict[str, Callable[[], Any]] = {
    "object": object,
    "odd": Odd,
    "huge": lambda: 10**5000,
    "huge below zero": lambda: -(10**5000),
    "nan": lambda: float("nan"),
    "bytes": lambda: b"x",
    "objects": lambda: [object()],
    "threes": lambda: [[1, 2, 3]],
    "numbers": lambda: [5.5],
    "mapping": lambda: {1: object()},
    "endless numbers": itertools.count,
    "endless texts": lambda: itertools.repeat("x"),
    "endless pairs": lambda: itertools.repeat((1, 1.0)),
    "half": lambda: "caf\ud83d",
    "halves": lambda: ["\ud83d"],
    "nans": lambda: [float("nan")],
    "array": lambda: np.zeros((2, 2)),
    "long": lambda: "\ud83d" * 10**6,
    "home": lambda: "~nosuchuser/x.gguf",
    "zero": lambda: "a\0b",
    "huge ids": lambda: [10**5000],
    "huge pairs": lambda: [(10**5000, 1.0), (1, 10**5000)],
    "none pairs": lambda: [(1, None)],
}


def made_or_refused(kind: type[Options], name: str, value: object) -> Options | None:
    """The options, or None where they were refused by the name of the option."""
    refused: InvalidOptionError | None = None
    try:
        return kind(**{name: value})
    except InvalidOptionError as error:
        refused = error
    assert refused.option == name
    assert len(str(refused).encode()) < 400
    return None


@pytest.mark.parametrize("name", GenerationOptions.__dataclass_fields__)
@pytest.mark.parametrize("make", HOSTILE_OPTIONS.values(), ids=HOSTILE_OPTIONS)
def test_an_option_is_valid_or_refused_by_its_name(name: str, make: Callable[[], Any]) -> None:
    options = made_or_refused(GenerationOptions, name, make())
    if options is not None:
        is_path = name == "adapters"  # the name of a file need not be UTF-8
        json.dumps(options.set_values(), ensure_ascii=is_path).encode()


@pytest.mark.parametrize("name", LoadOptions.__dataclass_fields__)
@pytest.mark.parametrize("make", HOSTILE_OPTIONS.values(), ids=HOSTILE_OPTIONS)
def test_so_is_an_option_of_loads(name: str, make: Callable[[], Any]) -> None:
    options = made_or_refused(LoadOptions, name, make())
    assert options is None or json.dumps(options.set_values())


PARTS: list[Callable[[Any], Any]] = [
    TextPart,
    ReasoningPart,
    lambda value: ReasoningPart("x", value),
    lambda value: ToolCall(value, "f", "{}"),
    lambda value: ToolCall("1", value, "{}"),
    lambda value: ToolCall("1", "f", value),
    lambda value: ToolResult(value, "f", "x"),
    lambda value: ToolResult("1", value, "x"),
    lambda value: ToolResult("1", "f", value),
    lambda value: VendorPart(value, "x"),
    lambda value: VendorPart("openai", value),
    lambda value: ImagePart(value, b"x"),
    lambda value: ImagePart(url=value),
    lambda value: Message("user", value),
    lambda value: Message("user", (value,)),
    lambda value: Message(value, "x"),
    lambda value: Tool(value, "", {}),
    lambda value: Tool("f", value, {}),
]


@pytest.mark.parametrize("make", PARTS)
@pytest.mark.parametrize("value", NOT_TEXTS.values(), ids=NOT_TEXTS)
def test_a_part_of_a_message_holds_text(make: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(InvalidOptionError):
        make(value)


HALF, MENDED = "caf\ud83d", "caf\ufffd"


def test_half_characters_are_mended_wherever_text_comes_in() -> None:
    prompt = [
        {"role": "user", "content": HALF},
        Message("assistant", (TextPart(HALF), ToolCall("1", "f", HALF))),
        Message("tool", (ToolResult("1", "f", HALF),)),
    ]
    turns = to_messages(prompt, system=HALF)  # type: ignore[arg-type]
    assert turns[0].text == turns[1].text == turns[2].text == MENDED
    assert turns[2].parts[1] == ToolCall("1", "f", MENDED)
    assert turns[3].parts[0] == ToolResult("1", "f", MENDED)
    options = GenerationOptions(stop=HALF, stop_tokens=[HALF], logit_bias={HALF: 1})  # type: ignore[arg-type]
    assert options.stop == options.stop_tokens == (MENDED,)
    assert options.logit_bias == ((MENDED, 1),)
    assert Tool("f", HALF, {}).description == MENDED


@pytest.mark.parametrize("name", ["grammar", "tool_choice"])
def test_half_characters_are_refused_where_each_one_counts(name: str) -> None:
    with pytest.raises(InvalidOptionError, match="lone surrogate"):
        GenerationOptions(**{name: HALF})
    with pytest.raises(InvalidOptionError, match="lone surrogate"):
        Tool(HALF, "", {})


def test_numpys_texts_and_columns_of_them_are_texts() -> None:
    model = FakeModel()
    assert len(asyncio.run(model.embed(np.array(["a", "b"]))).vectors) == 2  # type: ignore[arg-type]
    assert asyncio.run(model.generate(np.str_("Hi"))).text


def test_all_of_it_is_an_error_of_nbllm() -> None:
    with pytest.raises(NbllmError):
        asyncio.run(FakeModel().generate(5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked",
    [{"options": {}}, {"options": 5}, {"alias": 5}, {"wait": "long"}, {"wait": -1}, {"gpu": 1}],
    ids=str,
)
async def test_so_are_the_arguments_of_a_load(asked: dict[str, Any]) -> None:
    manager = ModelManager([fake_info("m")], open_model=FakeOpener())
    with pytest.raises(InvalidOptionError):
        await manager.load_model("m", **asked)
    assert manager.list_statuses() == []
