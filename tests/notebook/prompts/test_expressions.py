"""What braces compute, what they refuse, and what that may cost."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import math
import os
import time
import types
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbllm.core.results import FinishReason, GenerationResult
from nbllm.notebook.prompts.interpolation import interpolate
from nbllm.notebook.prompts.rendered_values import rendered

SECONDS = 2.0
"""Of one thread, for any one refusal; most take a thousandth of that."""


def told(expression: str, **variables: Any) -> str:
    """The text that the braces give way to; else why they stay."""
    result = interpolate(f"{{{expression}}}", variables, render=rendered)
    return result.text if result.replaced else f"left: {result.left[0].reason}"


FRAME = pd.DataFrame({"city": ["Rome", "Oslo", "Rome"], "n": [1, 2, 4], "x": [0.5, 1.5, 2.5]})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("df.n.sum()", "7"),
        ("df['x'].mean():.2f", "1.50"),
        ("df.groupby('city')['n'].sum().to_dict()", "{'Oslo': 2, 'Rome': 5}"),
        ("df.groupby('city').n.sum().to_dict()", "{'Oslo': 2, 'Rome': 5}"),
        ("df.groupby('city').n.sum().loc['Rome']", "5"),
        ("df.city.str.upper().tolist()[0]", "ROME"),
        ("df.city.str.len().max()", "4"),
        ("df[df.n > 1].city.tolist()", "['Oslo', 'Rome']"),
        ("df.sort_values('n', ascending=False).n.tolist()", "[4, 2, 1]"),
        ("df.loc[1, 'city']", "Oslo"),
        ("df.iloc[-1].tolist()", "['Rome', 4, 2.5]"),
        ("df.city.value_counts().to_dict()", "{'Rome': 2, 'Oslo': 1}"),
        ("df.city.isin(['Oslo']).tolist()", "[False, True, False]"),
        ("df.mean(numeric_only=True).to_dict()", "{'n': 2.3333333333333335, 'x': 1.5}"),
        ("df.shape", "(3, 3)"),
        ("len(df)", "3"),
        ("max(df.n)", "4"),
        ("(df.n * 2 + 1).tolist()", "[3, 5, 9]"),
        ("a[:, 1].tolist()", "[1.0, 4.0]"),
        ("a.sum(axis=0).tolist()", "[3.0, 5.0, 7.0]"),
        ("(a / 2).max()", "2.5"),
    ],
)
def test_tables_and_arrays_are_computed_with(expression: str, expected: str) -> None:
    assert told(expression, df=FRAME, a=np.arange(6.0).reshape(2, 3)) == expected


@dataclasses.dataclass
class Person:
    name: str
    age: int
    parents: list[Any] = dataclasses.field(default_factory=list)

    @property
    def first(self) -> str:
        raise AssertionError("a property is code")


class Shade(enum.Enum):
    DARK = "d"


class Slotted:
    __slots__ = ("x",)
    shared = "s"

    def __init__(self) -> None:
        self.x = 1

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("this is code")


Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("p.name", "Ann"),
        ("p.parents[0].age + 1", "61"),
        ("p", "Person(name='Ann', age=34, parents=[Person(name='Bo', age=60, parents=[])])"),
        ("p.first", "left: Person.first is computed by its class; assign it to a variable first"),
        ("p.nothing", "left: AttributeError: 'Person' object has no attribute 'nothing'"),
        ("p.__class__", "left: the attribute __class__ is not read in a prompt"),
        ("slotted.x", "1"),
        ("slotted.shared", "s"),
        (
            "slotted.other",
            "left: Slotted.other would be computed by its class; assign it to a variable first",
        ),
        ("pair.right", "2"),
        ("pair", "Pair(left=1, right=2)"),
        ("shade.value", "d"),
        ("space.a", "3"),
        ("result.text", "Hi"),
        ("result.usage.total_tokens", "None"),
    ],
)
def test_objects_give_their_data_and_run_no_code(expression: str, expected: str) -> None:
    variables = {
        "p": Person("Ann", 34, [Person("Bo", 60)]),
        "slotted": Slotted(),
        "pair": Pair(1, 2),
        "shade": Shade.DARK,
        "space": types.SimpleNamespace(a=3),
        "result": GenerationResult(text="Hi", model="m", finish_reason=FinishReason.STOP),
    }
    assert told(expression, **variables) == expected


@pytest.mark.parametrize(
    "expression",
    [
        """type("X",(),dict(__class_getitem__=eval))["__import__('os')"] or n""",
        """sorted(["print(1)"], key=eval) or n""",
        "df.groupby(eval).sum()",
        "df.sort_values('n', key=eval)",
        "df.agg(run)",
        "df.agg('sum')",
        "df.query('n > 1')",
        "df.eval('n + 1')",
        "df.n.map(run)",
        "df.n.apply(run)",
        "df.pipe(run)",
        "max(words, key=run)",
        "run('1')",
        "held.run('1')",
        "[run][0]('1')",
        "d['run']",
        "d.get('run')",
        "sqrt",
        "(n, run)[1]",
        "np.fromfile('x')",
        "pd.read_pickle('x')",
        "pd.io.common.os.environ['HOME']",
        "os.environ",
        "os",
        "environ",
        "environ['HOME']",
        "d['os'].environ",
        "name.format(n)",
        "name.format_map(d)",
        "n.to_bytes(10**9, 'big')",
        "words.append(n)",
        "words.sort()",
        "d.pop('k')",
        "d.setdefault('z', n)",
    ],
)
def test_code_is_neither_called_nor_handed_out(expression: str) -> None:
    words = ["a", "b"]
    held = types.SimpleNamespace(run=eval)
    d = {"run": eval, "os": os, "k": 1}
    variables = {"words": words, "held": held, "d": d, "run": eval, "os": os, "n": 1, "name": "x"}
    variables |= {"np": np, "pd": pd, "df": FRAME, "environ": os.environ}
    result = told(expression, **variables, sqrt=math.sqrt)
    assert result.startswith("left: ")
    assert (words, d.keys()) == (["a", "b"], {"run", "os", "k"})


def test_a_listed_function_is_known_by_what_it_is_and_not_by_its_name() -> None:
    calls: list[object] = []
    assert told("root(n)", root=math.sqrt, n=4) == "2.0"
    assert told("length(n)", length=len, n="abc") == "3"
    for name in ("len", "math"):
        fake = calls.append if name == "len" else types.SimpleNamespace(sqrt=calls.append)
        expression = "len(n)" if name == "len" else "math.sqrt(n)"
        assert told(expression, **{name: fake, "n": 4}).startswith("left: ")
    assert calls == []


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)
TWICE: list[Any] = [1]
for _ in range(60):
    TWICE = [TWICE, TWICE]
DEEP: list[Any] = []
for _ in range(5_000):
    DEEP = [DEEP]

COSTLY = [
    "sum(range(10**12)) + len(In)",
    "((10**1000)**1000)**1000 + len(In)",
    "n ** n ** n ** n",
    "q ** 10**6",
    "2 ** (10**9) or n",
    "'x' * 10**10 or n",
    "In * 10**9",
    "[In] * 10**6",
    "n:.99999999f",
    "n:>1000000000",
    "name:99999999",
    "now:%99999999d",
    "now.strftime('%99999999Y')",
    "list(range(10**9)) or n",
    "sorted(range(10**9)) or n",
    "max(range(10**12)) or n",
    "1.5 in range(10**12) or n",
    "name.ljust(10**10)",
    "name.zfill(10**10)",
    "name.center(10**10, 'x')",
    "'x'.join(In * 10**6)",
    "long.replace('a', long)",
    "long.replace('', long)",
    "long.rfind(half)",
    "half in long",
    "name.encode('idna')",
    "name.expandtabs(10**9)",
    "round(n, -10**9)",
    "int(big)",
    "big + 1",
    "int('9' * 10**5) or n",
    "chr(n) * 10**9",
    "sum(parts)",
    "TWICE == TWICE",
    "TWICE + TWICE",
    "str(TWICE)",
    "sorted(TWICE)",
    "CYCLE == CYCLE",
    "DEEP == DEEP",
    "same + other",
    "same.loc[['k'] * 1000]",
    "a[:, None] * a[None, :]",
    "spread.sum()",
    "spread + 1",
    "a.repeat(10**9)",
    "a.reshape(10**9)",
    "a.astype('U10000000')",
    "empty.reset_index()",
    "wide.T.T.T.T",
    "kinds.groupby(['a', 'b', 'c']).size() and n",
    "len(" * 60 + "n" + ")" * 60,
    "-" * 900 + "n",
    "+".join(["n"] * 450),
    "n" + "[0]" * 300,
]


@pytest.mark.parametrize("expression", COSTLY, ids=lambda text: text[:40])
def test_what_costs_much_is_refused_at_once(expression: str) -> None:
    categories = pd.Categorical.from_codes([0, 1], [str(n) for n in range(3_000)])
    long = "a" * 1_000_000
    variables = {
        "In": ["1"], "n": 9, "q": Fraction(7, 3), "name": "n", "now": pd.Timestamp("2026-01-01"),
        "long": long, "half": "b" + long[:500_000], "big": decimal.Decimal("1e999999999"),
        "parts": [Fraction(1, 3**n) for n in range(1, 4_000)],
        "TWICE": TWICE, "CYCLE": CYCLE, "DEEP": DEEP, "a": np.arange(100_000.0),
        "same": pd.Series(range(9_000), index=["k"] * 9_000),
        "other": pd.Series(range(9_001), index=["k"] * 9_001),
        "spread": np.broadcast_to(1.0, (10**6, 10**6)),
        "empty": pd.DataFrame(index=pd.RangeIndex(10**10)),
        "wide": pd.DataFrame(np.zeros((200_000, 4))),
        "kinds": pd.DataFrame({"a": categories, "b": categories, "c": categories}),
    }  # fmt: skip
    began = time.thread_time()
    result = interpolate(f"{{{expression}}}", variables, render=rendered)
    assert time.thread_time() - began < SECONDS
    assert len(result.text) < 20_000


@pytest.mark.parametrize(
    "braces",
    [
        "{{words[{}]}}",
        "{{df.head({})}}",
        "{{missing_{}}}",
        "{{many == many[:{}]}}",
        "{{fig if {} else 1}}",
    ],
)
def test_thousands_of_braces_take_a_bounded_time(braces: str) -> None:
    from matplotlib.figure import Figure

    variables = {"words": ["w"] * 5_000, "df": FRAME, "many": list(range(50_000)), "fig": Figure()}
    variables |= {f"miss_{n}": n for n in range(500)}
    began = time.thread_time()
    result = interpolate(" ".join(map(braces.format, range(3_000))), variables, render=rendered)
    assert time.thread_time() - began < 10
    assert "words" not in braces or len(result.replaced) == 3_000


def test_the_values_of_a_prompt_have_a_size_together() -> None:
    result = interpolate("{text}" * 1_000, {"text": "x" * 500_000})
    assert len(result.text) < 5 << 20
    assert result.left[-1].reason == "the values of this prompt exceed 4 MiB together"


KEY = "sk-abcdefghijklmnop"


@pytest.mark.parametrize(
    "expression",
    [
        "key",
        "key[3:]",
        "key.upper()",
        "key[::-1]",
        "list(key)",
        "key.split('-')[1]",
        "d['k'][3:]",
        "str(d)[8:]",
        "df",
        "df.k.tolist()[0][3:]",
        "df.k[0][4:]",
        "point.key[3:]",
        "', '.join(d.values())[3:]",
        "raw[3:]",
        "secret",
        "held",
        "secret[:15]",
    ],
)
def test_keys_stay_whatever_holds_them(expression: str) -> None:
    variables = {
        "key": KEY, "d": {"k": KEY}, "df": pd.DataFrame({"k": [KEY]}), "raw": KEY.encode(),
        "point": types.SimpleNamespace(key=KEY), "secret": "0123456789abcdef",
        "held": ["0123456789abcdef"],
    }  # fmt: skip
    text = f"{{{expression}}}"
    result = interpolate(text, variables, render=rendered, secrets=["0123456789abc"])
    assert result.text == text
    assert "API key" in result.left[0].reason
