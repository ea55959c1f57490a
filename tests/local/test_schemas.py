# ruff: noqa: E501 - tables
"""Schemas and grammars through the worker: what they bind, and what hostile ones do to others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, Field

from nbllm.core.errors import EngineError, InvalidOptionError
from nbllm.core.grammars.gbnf import read_gbnf
from nbllm.core.grammars.grammar_program import Program
from nbllm.core.types import FinishReason, Tool
from nbllm.local.formats.table import format_named
from nbllm.local.llama.grammar import grammar_text
from nbllm.local.llama_cpp_model import LlamaCppModel
from nbllm.local.reading.output_format import OutputFormat


@pytest.fixture
def model(short_model: LlamaCppModel) -> LlamaCppModel:
    """What binds an answer needs no sense in it."""
    return short_model


class City(BaseModel):
    name: str = Field(pattern=r"^[A-Z][a-z]{2,9}$")
    people: int = Field(ge=1, le=99)


async def test_a_list_of_models_is_answered(model: LlamaCppModel) -> None:
    result = await model.generate("Two cities.", schema=list[City], seed=1, max_tokens=200)
    assert result.finish_reason is FinishReason.LENGTH or all(
        isinstance(city, City) for city in result.value
    )


@pytest.mark.parametrize(
    "pattern",
    [r"^\d{2}$", r"^\[[0-9]]$", "^}$", "^[[:alpha:]]$", r"^\.$", "^a$|^b$", '^"a"$', "^(?:x|y)$"],
)
async def test_a_pattern_binds_the_answer(model: LlamaCppModel, pattern: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    result = await model.generate("Go", schema=schema, max_tokens=20, temperature=1.5)
    assert isinstance(result.value, str)


async def test_a_tools_pattern_binds_its_call(model: LlamaCppModel) -> None:
    code = {"type": "string", "pattern": r"^\[[0-9]]$"}
    tool = Tool(
        "look", "Look up a [code] in }.", {"properties": {"code": code}, "required": ["code"]}
    )
    result = await model.generate("Go", tools=(tool,), tool_choice="look", max_tokens=60)
    (call,) = result.tool_calls
    assert call.parsed_arguments()["code"][0] == "["


@pytest.mark.parametrize("name", ["generic", "hermes", "llama", "mistral", "gemma", "glm", "lfm2"])
@pytest.mark.parametrize(
    "parameters", [{}, {"type": "null"}, {"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}]
)
def test_a_call_needs_no_rule_that_is_not_there(name: str, parameters: dict[str, Any]) -> None:
    tools = [{"function": {"name": n, "parameters": parameters}} for n in ("a", "b")]
    options = {"tools": tools, "tool_choice": "required"}
    text = grammar_text(options, OutputFormat(calls=format_named(name)))
    assert text is not None
    Program(read_gbnf(text, lambda text: None))


HOSTILE: list[dict[str, Any]] = [
    {"grammar": 'root ::= ("a"?){2000} "!"'},
    {"grammar": 'root ::= "a" root "b" | "a" root "c" | "d"'},
    {"grammar": "root ::= " + "(" * 100_000},
    {"grammar": "".join(f"r{n} ::= r{n + 1} | r{n + 1}\n" for n in range(60)) + 'r60 ::= "a"\nroot ::= r0'},
    {"grammar": 'root ::= a root "x" | "y"\na ::= b\nb ::= ""'},
    {"grammar": 'root ::= "a" x{1900}\nx ::= ("b"? "c"? "d"?){60}'},
    {"grammar": "root ::= [" + "a-z" * 100_000 + "]*"},
    {"schema": {"type": "string", "pattern": "^(((a?){100}){100}){100}$"}},
    {"schema": {"type": "string", "pattern": "^(a|aa|aaa|a*)*$"}},
    {"schema": {"enum": [f"value {n:05}" for n in range(5_000)]}},
    {"schema": {"type": "array", "minItems": 10**9}},
    {"schema": {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/A"}, k: {"const": k}}, "required": ["x", k]}
        for k in "abcdefgh"] + [{"type": "null"}]}}}},
]  # fmt: skip


async def test_hostile_grammars_end_alone(model: LlamaCppModel) -> None:
    async def tried(asked: dict[str, Any]) -> str:
        try:
            result = await model.generate("aaaa", max_tokens=30, **asked)
        except (EngineError, InvalidOptionError) as error:
            return str(error)
        return result.text

    pid = model.pid
    answers = asyncio.gather(*map(tried, HOSTILE))
    beside = await model.generate("Hello", max_tokens=20, temperature=0)
    told = await answers
    assert beside.text
    assert (model.pid, model.usable) == (pid, True)
    assert "nested groups" in told[2]
    assert "left recursion" in told[4]
    assert "too ambiguous to parse in reasonable time" in told[5]
