"""What the option table says of backends holds, and what is derived from it is up to date."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllm.cloud.vendors import adapter_for
from nbllm.core.errors import InvalidOptionError, UnsupportedError
from nbllm.core.messages import Message
from nbllm.core.option_table import Backend, options_of, refused
from nbllm.core.options import Tool
from nbllm.core.types import GenerationOptions, GenerationRequest, LoadOptions, ModelInfo
from nbllm.local.worker_requests import worker_options

SCRIPT = Path(__file__).parent.parent.parent / ".ci" / "options_reference.py"
SAMPLES: dict[str, Any] = {
    "stop": "x",
    "response_schema": {"type": "object", "properties": {"a": {"type": "string"}}},
    "tools": [Tool("f", "", {"type": "object", "properties": {}})],
    "tool_choice": "none",
    "extra": {"a": 1},
    "logit_bias": {5: 1.0},
    "dry_sequence_breakers": "x",
    "grammar": 'root ::= "a"',
    "stop_tokens": [5],
    "adapters": ["a.gguf"],
    "prompt_caching": False,
}
"""Values of options that are no numbers, switches or choices, or of which those ask for nothing."""


def sample(name: str) -> GenerationOptions:
    kind = options_of(GenerationOptions)[name].kind
    usual: Any = True if kind.typed == "switch" else kind.choices[-1] if kind.choices else 1
    return GenerationOptions.of({name: SAMPLES.get(name, usual)})


def http_body(model_type: str, **more: Any) -> Callable[[GenerationOptions], Any]:
    info = ModelInfo(name="m", model_type=model_type, local=False, model="some-model", **more)

    def body(options: GenerationOptions) -> Any:
        request = GenerationRequest((Message("user", "Hi"),), options, model=info)
        return adapter_for(info).generation_request(info, request, stream=True).body

    return body


def worker_body(options: GenerationOptions) -> Any:
    load = LoadOptions(adapters={"a.gguf": 1})  # type: ignore[arg-type]
    info = ModelInfo(name="m", model_type="llama", local=True, path=Path("m.gguf"), load=load)
    return worker_options(info, GenerationRequest((Message("user", "Hi"),), options, model=info))


BODIES: dict[Backend, Callable[[GenerationOptions], Any]] = {
    Backend.LLAMA_CPP: worker_body,
    Backend.OPENAI_CHAT: http_body("openai", api="chat"),
    Backend.OPENAI_RESPONSES: http_body("openai", api="responses"),
    Backend.ANTHROPIC: http_body("anthropic"),
    Backend.GEMINI: http_body("gemini"),
    Backend.SERVERS: http_body("vllm", base_url="http://127.0.0.1:9/v1"),
}


@pytest.mark.parametrize("backend", BODIES, ids=lambda backend: str(backend.name))
@pytest.mark.parametrize("name", options_of(GenerationOptions))
def test_a_backend_is_told_what_it_follows_and_nothing_else(name: str, backend: Backend) -> None:
    declared, body = options_of(GenerationOptions)[name], BODIES[backend]
    if not backend & (declared.backends | declared.ignored_by):
        assert refused(sample(name), backend) == (name,)
        with pytest.raises(UnsupportedError, match=name):
            body(sample(name))
        return
    is_told = body(sample(name)) != body(GenerationOptions())
    assert is_told == bool(declared.sent and backend & declared.backends)


def test_what_asks_for_nothing_is_refused_by_nobody() -> None:
    nothing = GenerationOptions(raw=False, ignore_eos=False, adapters=(), stop=(), logit_bias=())
    assert all(refused(nothing, backend) == () for backend in BODIES)
    for body in BODIES.values():
        body(nothing)


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], check=False)
    assert done.returncode == 0, "run python .ci/options_reference.py"


@pytest.mark.parametrize("kind", [GenerationOptions, LoadOptions])
def test_the_docstring_explains_every_option(kind: type[GenerationOptions | LoadOptions]) -> None:
    for name, declared in options_of(kind).items():
        assert f"\n        {name}: {declared.about}" in str(kind.__doc__)
        assert declared.reference.endswith(".")


def test_flags_are_unique_and_switches_say_what_they_do() -> None:
    for kind in (GenerationOptions, LoadOptions):
        flags = [flag for each in options_of(kind).values() for flag in each.flags]
        assert len(flags) == len(set(flags))


def test_merging_checks_only_what_excludes_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = GenerationOptions(top_k=3, grammar="x"), GenerationOptions(top_k=4, seed=1)
    schema = GenerationOptions(response_schema={})
    monkeypatch.delattr("nbllm.core.option_table.OptionSet.__post_init__")
    merged = first.merged(second)
    assert merged.set_values() == {"top_k": 4, "seed": 1, "grammar": "x"}
    assert merged.replaced(grammar=None).set_values() == {"top_k": 4, "seed": 1}
    assert first.merged(first.replaced(**dict.fromkeys(first.set_values()))) is first
    with pytest.raises(InvalidOptionError, match="response_schema"):
        first.merged(schema)


def test_numbers_of_subclasses_become_plain_ones() -> None:
    np = pytest.importorskip("numpy")
    options = GenerationOptions(temperature=np.float64(0.5))
    assert type(options.temperature) is float
    assert pickle.loads(pickle.dumps(options)) == options
    assert eval(repr(options), {"GenerationOptions": GenerationOptions}) == options


@pytest.mark.parametrize(
    ("given", "kept"), [(90, 90), ("90", 90), ("1.5m", 90), (" 2H ", 7200), ("0s", 0)]
)
def test_times_are_seconds_or_have_a_unit(given: Any, kept: float) -> None:
    assert LoadOptions(keep_alive=given).keep_alive == kept
    assert GenerationOptions(max_retry_seconds=given).max_retry_seconds == kept


@pytest.mark.parametrize("given", ["", "s", "-1s", "1 w", "10 minutes", "1e3", "٣s", "9" * 40])
def test_other_times_are_refused_with_an_example(given: str) -> None:
    with pytest.raises(InvalidOptionError, match="must be seconds, or a time such as 90s, 10m"):
        LoadOptions(keep_alive=given)  # type: ignore[arg-type]


def test_a_tool_may_be_the_json_of_one() -> None:
    tool = {"name": "f", "description": "Does.", "parameters": {"type": "object"}}
    options = GenerationOptions.of({"tools": [json.loads(json.dumps(tool))]})
    assert options.tools == (Tool(**tool),)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="tools: name must be 1 to 128 letters"):
        GenerationOptions.of({"tools": [{**tool, "name": "a b"}]})
