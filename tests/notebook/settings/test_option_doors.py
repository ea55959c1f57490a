"""A value that an option does not take gets the same refusal wherever it comes in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError

from nbllm.core.errors import ConfigError, InvalidOptionError
from nbllm.core.model_config import parse_entry
from nbllm.core.model_manager import ModelManager
from nbllm.core.option_table import OptionSet, options_of
from nbllm.core.types import GenerationOptions, LoadOptions
from nbllm.notebook import extension as magics
from nbllm.notebook.asking.ask_magics import ASK
from nbllm.notebook.flags import LOAD, flagged_options, parser_for, with_help
from nbllm.notebook.magic_line import Flags, numeral, parse
from nbllm.notebook.magic_settings import NbLLM
from nbllm.notebook.settings import setting_changes
from nbllm.testing import FakeModel, FakeOpener, fake_info

VALUES: list[Any] = [
    *(True, False, -1, 0.5, 5, 1e400, -1e400, float("nan"), 2**63, 10**400, -(10**400)),
    *("hot", "", "5", "\ud800", "a\0b", b"x", [], {}, [None], [1.5], {"a": "b"}, {"a": {}}),
    *(Decimal(1), Fraction(1, 2), np.int64(5), np.float32(0.5), np.float64(2), np.bool_(True)),
    *(np.array([1, 2]), complex(1), object(), int, [[1, 2, 3]], [{"name": "f"}]),
]
WORDS = ["hot", "-1", "1.5", "nan", "-inf", "True", "9" * 400, "1_0x", "٣x", "None", "0x10", "1,5"]

Door = Callable[[str, Any], object]


def told(door: Door, name: str, value: Any) -> str:
    """What is wrong with the value, "" where it is taken."""
    try:
        door(name, value)
    except (InvalidOptionError, ConfigError, TraitError) as error:
        return str(error)
    return ""


def is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def entry(key: str, local: Mapping[str, Any]) -> Door:
    return lambda name, value: parse_entry({**local, key: {name: value}})


LOCAL, CLOUD = {"name": "m", "path": "m.gguf"}, {"name": "m", "model_type": "openai"}


def generation_doors() -> dict[str, Door]:
    return {
        "of": lambda name, value: GenerationOptions.of({name: value}),
        "call": lambda name, value: FakeModel().stream("Hi", **{name: value}),
        "trait": lambda name, value: setattr(NbLLM(), "options", {name: value}),
        "setting": lambda name, value: setting_changes.change_all(NbLLM(), [(name, value)]),
    }


ABOUT_TOGETHER = ("tool_choice", "grammar", "response_schema", "tools")
"""Options of which a call checks more than their values."""


@pytest.mark.parametrize("name", options_of(GenerationOptions))
def test_generation_options(name: str) -> None:
    for value in VALUES:
        expected = told(lambda name, value: GenerationOptions(**{name: value}), name, value)
        for door_name, door in generation_doors().items():
            if expected or name not in ABOUT_TOGETHER or door_name != "call":
                assert told(door, name, value) == expected, (door_name, value)
        if is_json(value):
            found = told(entry("options", CLOUD), name, value)
            assert bool(found) == bool(expected), value
            problem = expected.removeprefix(name).removeprefix(":").strip()
            assert problem in found, value


@pytest.mark.parametrize("name", options_of(LoadOptions))
def test_load_options(name: str, tmp_path: Path) -> None:
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=FakeOpener(text="Hi"))

    def load(name: str, value: Any) -> object:
        return asyncio.run(manager.load_model("tiny", **{name: value}))

    for value in VALUES:
        expected = told(lambda name, value: LoadOptions(**{name: value}), name, value)
        assert told(lambda name, value: LoadOptions.of({name: value}), name, value) == expected
        if expected:
            assert told(load, name, value) == expected, value
        if is_json(value):
            found = told(entry("load", LOCAL), name, value)
            assert bool(found) == bool(expected), value
            assert expected.removeprefix(name).removeprefix(":").strip() in found, value


@pytest.mark.parametrize(
    ("explained", "kind", "options"),
    [(ASK, "generation", GenerationOptions), (LOAD, "load", LoadOptions)],
)
def test_flags(explained: Any, kind: Any, options: type[OptionSet]) -> None:
    parser = parser_for(with_help(explained)(lambda line: None))
    for name, declared in flagged_options(kind).items():
        if declared.kind.repeats or declared.kind.typed == "switch":
            continue
        for word in WORDS:
            parsed = vars(parse(parser, f"m {declared.flags[-1]}={word}", Flags()))[name]
            typed = numeral(word) if declared.kind.typed == "number" else word
            assert repr(parsed) == repr(typed)
            expected = told(lambda name, value: options(**{name: value}), name, typed)
            assert told(lambda name, value: options.of({name: value}), name, parsed) == expected


def test_settings_keep_what_can_be_saved_and_read_again(tmp_path: Path) -> None:
    tool = {"name": "f", "description": "", "parameters": {"type": "object"}}
    given = {"stop": iter(["a", "b"]), "tools": [tool], "top_p": np.float64(0.5), "top_k": None}
    settings, other = NbLLM(options=given), NbLLM()
    file = str(tmp_path / "settings.json")
    setting_changes.save(settings, file)
    setting_changes.change_all(other, setting_changes.load(other, file))
    assert other.options == settings.options
    assert GenerationOptions.of(other.options).stop == ("a", "b")


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("%%llm -t hot\nHi", "temperature must be a number (got 'hot')"),
        ("%%llm --max-tokens 1.5\nHi", "max_tokens must be an integer (got 1.5)"),
        ("%%llm --top-k nan\nHi", "top_k must be an integer (got nan)"),
        (
            "%%llm --stop ''\nHi",
            "stop must be a string or a list of strings, none of them empty (got '')",
        ),
        ("%llm_load tiny --ctx many", "context_length must be an integer (got 'many')"),
        ("%llm_load tiny --kv q5", "kv_type must be one of f16, q8_0, q4_0 (got 'q5')"),
        ("%llm_load tiny --keep-alive x", "keep_alive must be seconds, or a time such as 90s"),
        ("%llm_config temperature=hot", "temperature must be a number (got 'hot')"),
        ("%llm_config priority=high", "priority must be interactive or background (got 'high')"),
    ],
)
def test_magics_refuse_in_the_words_of_the_option(
    shell: InteractiveShell, tmp_path: Path, cell: str, problem: str
) -> None:
    infos = [fake_info("tiny")]
    manager = ModelManager(infos, folder=tmp_path, open_model=FakeOpener(text="Hi"))
    magics.load(shell, lambda: manager)
    with pytest.raises((InvalidOptionError, ConfigError)) as caught:
        shell.run_cell(cell).raise_error()
    assert problem in str(caught.value)
