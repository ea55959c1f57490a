"""What gives way to a value in a prompt, and above all what does not."""

from __future__ import annotations

import datetime
import math
import sys
import time
import types
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.errors import InvalidOptionError
from nbllm.core.schemas.answer_schemas import answer_schema
from nbllm.core.types import FinishReason, GenerationResult, ImagePart, TextPart
from nbllm.notebook.prompts.interpolation import Interpolated, interpolate
from nbllm.notebook.prompts.rendered_values import rendered

VARIABLES = {
    "x": 3.14159,
    "n": 5,
    "name": "Ada",
    "braces": "{name} and {{n}}",
    "a": 1,
    "i": 2,
    "data": {"k": [10, 20, 30], "key with blank": "v"},
    "words": ["one", "two"],
    "now": datetime.datetime(2026, 1, 2, 3, 4),
    "math": math,
    "json": "a variable",
}


def plain(text: str, **more: object) -> str:
    return interpolate(text, {**VARIABLES, **more}).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dear {name},", "Dear Ada,"),
        ("{x:.2f} {x!r} {name!r:>7} {n:03d}", "3.14 3.14159   'Ada' 005"),
        ("{now:%H:%M}", "03:04"),
        ("{data['k'][1:]} {data['k'][-1]} {data['key with blank']}", "[20, 30] 30 v"),
        ("{x + 1:.1f} {n ** 2} {-n} {n if n > 3 else 0}", "4.1 25 -5 5"),
        ("{len(words)} {', '.join(words)} {words[0].upper()}", "2 one, two ONE"),
        ("{sorted(data['k'], reverse=True)}", "[30, 20, 10]"),
        ("{math.floor(x)}", "3"),
        ("{ name } {name } { data['k'] } { now.year }", "Ada Ada [10, 20, 30] 2026"),
        ("{n=} {n = } {x=:.1f} {name=!s} {n + 1=}", "n=5 n = 5 x=3.1 name=Ada n + 1=6"),
        ("{n > 3} {1 < n < 4} {n in data['k']} {not n} {n and name} {n or name}",
         "True False False False Ada 5"),
        ('{"person": {name}, "age": {n}}', '{"person": Ada, "age": 5}'),
        ("file_{name}.txt costs ${n}", "file_Ada.txt costs $5"),
        ("```python\n{words}\n```", "```python\n['one', 'two']\n```"),
    ],
)  # fmt: skip
def test_what_resolves_is_replaced(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "name": "x"}',
        '{"a":{"name":[1]}}',
        "{}",
        "{1, 2} {1} {'name'} {[n]} {(n, a)}",
        "{unknown} {unknown.name} {n + unknown} {unknown:.2f}",
        "{{name}} {{ name }} {{n}",
        "{ unknown } {unknown } { name() } { name + a } { name!r } { return name; }",
        "{\nname\n}",
        r"\frac{a}{n} \sqrt[n]{a} \mathbf{x} \sum_{i}^{n} x_{i} \alpha_{i} 2^{n} \begin{a}",
        "for (;;) { n; } if (a) { return n; }",
        "struct {int n;} fn main() {name()}",
        "{id} {type} {len} {print}",
        "{n: value} {name: 1} {n!x} {n:zz}",
        "{lambda: n} {[w for w in words]} {(n := 1)}",
        "{file:notes.txt}",
        "}{ {a b} {n",
        "dict = {name: n, a: i}",
    ],
)
def test_all_other_braces_stay(text: str) -> None:
    told = interpolate(text, VARIABLES)
    assert told.text == text
    assert not told.replaced


@given(st.text(alphabet="{}()[]:!.,'\"\\ \nabn_^$1é", max_size=80), st.text(max_size=80))
def test_text_without_known_variables_is_unchanged(dense: str, any_text: str) -> None:
    for text in (dense, any_text, dense + any_text + dense):
        assert interpolate(text, {}).parts == (TextPart(text),)


@given(
    st.text(),
    st.text(alphabet=st.characters(blacklist_characters="{}", blacklist_categories=["Cs"])),
)
def test_values_are_put_in_verbatim_and_never_expanded(value: str, around: str) -> None:
    told = interpolate(f"{around}\n{{value}}|{around}", {"value": value, "name": "never"})
    assert told.text == f"{around}\n{value}|{around}"


def test_it_is_one_pass() -> None:
    assert plain("{braces}{name}") == "{name} and {{n}}Ada"


def test_what_was_replaced_is_told_and_what_failed_too() -> None:
    told = interpolate("{name} {data['x']} {unknown + 1}", VARIABLES)
    assert [(each.source, each.characters) for each in told.replaced] == [("{name}", 3)]
    assert [(each.source, each.reason) for each in told.left] == [("{data['x']}", "KeyError: 'x'")]
    assert told.text == "Ada {data['x']} {unknown + 1}"


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("{nmae}", ["there is no variable nmae. Did you mean 'name'?"]),
        ("{nmae.upper()} {name}", ["there is no variable nmae. Did you mean 'name'?"]),
        (
            "{ name.length } { it }",
            ["a list_iterator gives its elements only once; assign list(…) of it to a variable"],
        ),
        ("{unknown}", ["there is no variable unknown"]),
        ("{unknown.x} {unknown + 1} { unknown } ${unknown} {}", []),
        ('{"nmae": 1}', []),
    ],
)
def test_a_misspelt_variable_is_told(text: str, reasons: list[str]) -> None:
    told = interpolate(text, {"name": "Ada", "it": iter([])}, render=rendered)
    assert [each.reason for each in told.left] == reasons
    assert told.text == text.replace("{name}", "Ada")


class Trap:
    """Of a foreign module, as far as the evaluator can see."""

    def __init__(self) -> None:
        self.fired = 0

    def fire(self) -> str:
        self.fired += 1
        return "fired"


@pytest.mark.parametrize(
    "text",
    [
        "{os.system('true')}",
        "{trap.fire()}",
        "{trap.__class__}",
        "{words.append(3)}",
        "{words.clear()}",
        "{open('x', 'w')}",
        "{n.__class__.__mro__}",
        "{eval('n')}",
        "{exec(name)}",
        "{getattr(n, name)}",
        "{name.format(trap)}",
        "{name * 10000000}",
        "{n ** 100000}",
        "{run.gi_frame}",
        "{later()}",
    ],
)
def test_a_pasted_text_cannot_do_harm(text: str) -> None:
    import os

    async def later() -> None: ...

    trap, words = Trap(), ["one"]
    variables = {**VARIABLES, "os": os, "trap": trap, "words": words, "later": later}
    told = interpolate(text, {**variables, "run": (n for n in words)})
    assert told.text == text
    assert trap.fired == 0
    assert words == ["one"]
    assert told.left or "open" in text or "eval" in text


@pytest.mark.parametrize("text", ["{environment}", "{environment['KEY']}", "{environment!s:.40}"])
def test_a_key_is_not_put_in(text: str) -> None:
    told = interpolate(text, {"environment": {"KEY": "sk-abcdefghijklmnop"}})
    assert told.text == text
    assert "API key" in told.left[0].reason
    assert "sk-" not in told.left[0].reason


@pytest.mark.parametrize(
    "call",
    [
        "to_csv('gone')",
        "to_string('gone')",
        "agg('to_csv', path_or_buf='gone')",
        "sort_values('a', inplace=True)",
        "fillna(0, inplace=True)",
        "pop('a')",
        "eval('a = 3', inplace=True)",
        "head(**{})",
    ],
)
def test_a_table_cannot_be_changed_or_written(call: str) -> None:
    frame = pd.DataFrame({"a": [2.0, 1.0]})
    text = f"{{frame.{call}}}"
    assert interpolate(text, {"frame": frame}).text == text
    assert frame["a"].tolist() == [2.0, 1.0]


def test_an_array_cannot_be_written_to() -> None:
    variables = {"a": np.ones(3), "b": np.zeros(3)}
    for text in ("{a.cumsum(0, None, b)}", "{a.cumsum(out=b)}"):
        assert interpolate(text, variables).text == text
    assert variables["b"].tolist() == [0, 0, 0]
    assert (
        plain("{m.reshape(2, 2).tolist()} {m.sum(0)}", m=np.ones(4))
        == "[[1.0, 1.0], [1.0, 1.0]] 4.0"
    )


def test_functions_of_the_notebook_are_not_called() -> None:
    notebook = types.ModuleType("__main__")
    exec("def twice(n):\n    return 2 * n", notebook.__dict__)  # as a cell does
    told = interpolate("{twice(n)}", {"twice": notebook.twice, "n": 1})
    assert told.text == "{twice(n)}"
    assert told.left[0].reason == (
        "twice is not called in a prompt; compute it in a variable first"
    )


def test_images_stand_where_they_were_named() -> None:
    picture = ImagePart("image/png", b"12345")
    told = interpolate(
        "What is {p} beside {n}?",
        {"p": picture, "n": 1},
        render=lambda value: value if value is picture else str(value),
    )
    assert told.parts == (TextPart("What is "), picture, TextPart(" beside 1?"))
    assert told.content == told.parts
    assert told.replaced[0].bytes == 5
    assert isinstance(interpolate("no image", {}).content, str)


def test_files_are_read_by_path_and_their_errors_leave() -> None:
    assert interpolate("{file: a b.txt}!", {}, read=lambda path: f"<{path}>").text == "<a b.txt>!"

    def fail(path: str) -> str:
        raise InvalidOptionError(path, "gone")

    with pytest.raises(InvalidOptionError, match="gone"):
        interpolate("{file:x}", {}, read=fail)


@pytest.mark.parametrize(
    "text", ["{{" * 40_000, "{{}" * 20_000, "{a" * 40_000, "\\a{b}" * 20_000, "{n}" * 20_000]
)
def test_long_texts_take_linear_time(text: str) -> None:
    """A quadratic scan of these takes minutes, and the test's time limit ends it."""
    assert isinstance(interpolate(text, {}), Interpolated)


def test_deep_nesting_is_left() -> None:
    deep = "{" + "(" * (sys.getrecursionlimit() * 2) + "n" + ")" * 10 + "}"
    assert plain(deep) == deep


def test_braces_without_end_stop_at_the_limit_of_a_prompt() -> None:
    for text in ("".join(f"{{x+{n}}}" for n in range(60_000)), "{" * 500_000 + "{x}"):
        began = time.thread_time()
        found = interpolate(text, {"x": 3})
        assert time.thread_time() - began < 12
        assert found.left or found.replaced


def test_the_value_of_a_schema_is_not_made_in_braces() -> None:
    made = []

    @dataclass
    class Person:
        name: str

        def __post_init__(self) -> None:
            made.append(self)

    result = GenerationResult(
        text='{"name": "Ann"}',
        model="m",
        finish_reason=FinishReason.STOP,
        schema=answer_schema(Person),
    )
    assert "{r.value}" in interpolate("{r.value} {r.schema}", {"r": result}).text
    assert interpolate("{r.text}", {"r": result}).text == '{"name": "Ann"}'
    assert not made
    assert result.value.name == "Ann"


def test_a_row_of_a_table_stands_in_braces() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    found = interpolate("{t.loc[1]} {t.iloc[0]} {t.loc[1, 'b']}", {"t": table})
    assert not found.left
