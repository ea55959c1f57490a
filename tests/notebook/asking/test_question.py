"""Which flags are those of one question, and which steps a question calls for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nbllm.notebook.asking.pipeline import STEPS
from nbllm.notebook.asking.question import AskFlags
from nbllm.notebook.chat.chat_step import ChatStep
from nbllm.notebook.forms.form_step import FormStep

ALWAYS = [step for step in STEPS if step not in (ChatStep, FormStep)]


@pytest.mark.parametrize(
    "flags",
    [
        {"models": ("a",)},
        {"diff": True},
        {"frame": "df"},
        {"run": {"into": ""}},
        {"run": {"decide": "labels"}},
    ],
    ids=str,
)
def test_flags_of_several_questions_are_told_from_those_of_one(flags: dict[str, Any]) -> None:
    assert not replace(AskFlags(), **flags).ask_once
    assert AskFlags("smollm2", output="x", form="json", allow_file=("a",), raw=True).ask_once


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        ({"chat": "trip"}, ChatStep),
        ({"overflow": "error"}, ChatStep),  # which says that it is of no use
        ({"form": "text"}, FormStep),
        ({"schema": "Person"}, FormStep),
    ],
    ids=str,
)
def test_a_step_with_flags_takes_part_where_one_is_given(flags: Any, step: type) -> None:
    flags = replace(AskFlags(), **flags)
    assert [kind for kind in STEPS if flags.call_for(kind)] == [
        kind for kind in STEPS if kind in (*ALWAYS, step)
    ]


def test_the_steps_without_flags_take_part_in_every_question() -> None:
    assert [kind for kind in STEPS if AskFlags().call_for(kind)] == ALWAYS
