from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import InvalidOptionError
from nbllm.core.load_options import LoadOptions
from nbllm.core.model_config import load_config, parse_entry, save_config
from nbllm.core.options import GenerationOptions


def test_biases_are_pairs_however_they_are_given() -> None:
    pairs = ((5, -100.0), (" Paris", 2.0))
    assert GenerationOptions(logit_bias=dict(pairs)).logit_bias == pairs  # type: ignore[arg-type]
    assert GenerationOptions(logit_bias=[list(p) for p in pairs]).logit_bias == pairs  # type: ignore[arg-type, misc]


def test_one_stop_token_or_breaker_is_a_list_of_one() -> None:
    options = GenerationOptions(stop_tokens=2, dry_sequence_breakers="\n")  # type: ignore[arg-type]
    assert options.stop_tokens == (2,)
    assert options.dry_sequence_breakers == ("\n",)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("logit_bias", {"": 1.0}, "tokens must be ids or strings"),
        ("logit_bias", {5: "much"}, "must be a number"),
        ("logit_bias", {5: float("inf")}, r"must be a finite number \(got inf\)"),
        ("logit_bias", 7, "pairs"),
        ("logit_bias", ["ab", "c"], "pairs"),
        ("stop_tokens", (True,), "token ids"),
        ("stop_tokens", (-1,), "token ids"),
        ("mirostat", 3, "between 0 and 2"),
        ("mirostat", 1.5, "must be an integer"),
        ("max_tokens", "5", r"must be an integer \(got '5'\)"),
        ("temperature", "hot", "must be a number"),
        ("temperature", float("nan"), r"must be a finite number \(got nan\)"),
        ("top_p", float("-inf"), "must be a finite number"),
        ("seed", 2**70, r"must be between 0 and 9,223,372,036,854,775,807 \(got 11805"),
        ("top_k", -1, r"must be at least 0 \(got -1\)"),
        ("logprobs", -1, "between"),
        ("dry_sequence_breakers", ("",), "none of them empty"),
    ],
)
def test_what_no_sampler_takes_is_refused(name: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=problem) as caught:
        GenerationOptions(**{name: value})
    assert caught.value.option == name


def test_options_of_a_config_are_those_of_python(tmp_path: Path) -> None:
    given = {
        "logit_bias": {" Paris": 2.0},
        "stop_tokens": [2, "<|end|>"],
        "dry_sequence_breakers": ["\n"],
        "grammar": 'root ::= "a"',
        "ignore_eos": False,
        "logprobs": 0,
        "mirostat": 2,
    }
    entry = {"name": "m", "path": "m.gguf", "options": given}
    info = parse_entry(entry)
    assert info.options == GenerationOptions(**given)  # type: ignore[arg-type]
    save_config(tmp_path / "config.json", [info])
    assert load_config(tmp_path / "config.json")[0].options == info.options


def test_an_answer_follows_one_grammar() -> None:
    with pytest.raises(InvalidOptionError, match="response_schema"):
        GenerationOptions(grammar='root ::= "a"', response_schema={"type": "object"})


@pytest.mark.parametrize(
    ("wish", "device"),
    [
        ("cpu", "CPU"),
        ("gpu", "GPU"),
        ("gpu1", "GPU 1"),
        ("GPU 0 + GPU 1", "GPU 0 + GPU 1"),
        ("gpu0,gpu2,gpu0", "GPU 0 + GPU 2"),
        ("gpu0 mig1", "GPU 0 MIG 1"),
    ],
)
def test_devices_are_named_as_in_the_table(wish: str, device: str) -> None:
    assert LoadOptions(device=wish).device == device


@pytest.mark.parametrize("wish", ["", "gpu0+", "mig1", "gpu0 mig", "cuda:0", "gpu\u0661"])
def test_other_devices_are_refused(wish: str) -> None:
    with pytest.raises(InvalidOptionError, match="GPU 0"):
        LoadOptions(device=wish)


@pytest.mark.parametrize(
    ("effort", "kept"),
    [(None, None), ("none", "none"), ("max", "max"), ("2048", "2048"), (2048, "2048"), (0, "0")],
)
def test_reasoning_effort_is_a_level_or_a_budget(effort: Any, kept: str | None) -> None:
    assert GenerationOptions(reasoning_effort=effort).reasoning_effort == kept


@pytest.mark.parametrize(
    "effort",
    ["x", "", "High", " low", "hgih", "-1", "1.5", "²", "٣", "9" * 10, -1, 2**31,
     pytest.param(10**5000, id="long"), 1.5, True, False, ["low"], b"low", "\ud800"],
)  # fmt: skip
def test_other_reasoning_efforts_are_refused_with_the_values(effort: Any) -> None:
    values = "must be none, minimal, low, medium, high, xhigh, max or a number of tokens"
    with pytest.raises(InvalidOptionError, match=rf"^reasoning_effort {values} \(got ") as caught:
        GenerationOptions(reasoning_effort=effort)
    assert len(str(caught.value)) < 300
