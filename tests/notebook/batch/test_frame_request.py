"""The one table of a run's options: what Python's signature, the flags and messages have of it."""

from __future__ import annotations

import inspect
from typing import Any

import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import nbllm
from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_names import option_name, option_use, written_as
from nbllm.notebook import extension as magics
from nbllm.notebook.batch.frame_request import FrameRequest, cell_form, run_flags
from nbllm.notebook.flags import parser_for

DF = pd.DataFrame({"text": ["one"]})


def test_the_signature_has_every_option_those_of_the_run_first() -> None:
    parameters = inspect.signature(nbllm.map_frame).parameters
    names = [*parameters]
    assert names[:5] == ["df", "template", "model", "schema", "decide"]
    assert names.index("progress") < names.index("max_tokens") < names.index("seed")
    assert parameters["into"].default is None
    assert parameters["max_failures"].default == 0.5
    assert parameters["df"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters["into"].kind is inspect.Parameter.KEYWORD_ONLY
    assert inspect.signature(nbllm.map_frame).return_annotation == "pd.DataFrame"


def test_the_documentation_explains_every_option_of_the_run() -> None:
    explained = inspect.getdoc(nbllm.map_frame) or ""
    own = FrameRequest.__annotations__
    assert [name for name in own if f"    {name}: " not in explained] == ["df", "template"]


def test_completion_offers_the_options(shell: InteractiveShell) -> None:
    shell.user_ns["map_frame"] = nbllm.map_frame
    with provisionalcompleter():
        found = [each.text for each in shell.Completer.completions("map_frame(ma", 12)]
    assert {"max_cost=", "max_tokens="} <= {*found}


def test_every_flag_of_a_run_is_a_flag_of_the_cell(shell: InteractiveShell) -> None:
    magics.load(shell)
    flags = parser_for(shell.find_cell_magic("llm")).format_help()
    assert all(f"{flag} " in flags for flag in run_flags().values())


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"temprature": 1}, "temprature: unknown option. Did you mean 'temperature'?"),
        ({"inot": "x"}, "inot: unknown option. Did you mean 'into'?"),
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"max_failures": 2}, "max_failures must be between 0 and 1"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"into": 3}, "into must be a string"),
        ({"into": " "}, "into must not be empty"),
        ({"calibrate": True}, "calibrate requires decide="),
        ({"cancel_batch": True, "dry_run": True}, "cannot be combined with dry_run"),
        ({"client": "x", "batch_api": True}, "cannot be combined with batch_api"),
        ({"decide": {"a": bool}, "schema": {}}, "cannot be combined with schema"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(
    asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        nbllm.map_frame(DF, "{text}", model="no such model", **asked)
    assert problem in str(refused.value)


def test_a_missing_argument_is_named_as_python_does() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'template'"):
        nbllm.map_frame(DF)  # type: ignore[call-arg]


def test_options_are_named_as_the_caller_writes_them() -> None:
    assert (option_name("max_cost"), option_use("max_cost")) == ("max_cost", "max_cost=…")
    with written_as(cell_form("orders")):
        assert (option_name("max_cost"), option_use("max_cost")) == ("--max-cost", "--max-cost USD")
        assert option_use("batch_api", "True") == "--batch-api"
        assert option_use("max_tokens", "9") == "--max-tokens N"
        assert option_name("df") == "orders"
        assert str(InvalidOptionError("max_tokens", "must be 1")) == "--max-tokens must be 1"
        assert str(InvalidOptionError("template", "has {}")) == "the prompt has {}"
        assert option_name("grammar_of_none") == "grammar_of_none"
    assert option_name("max_cost") == "max_cost"
