"""Answers in a form, out of what models really write around them."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from nbllm.core.answer_json import Block, blocks_of, closed, json_of
from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.schemas.answer_schemas import answer_schema
from nbllm.notebook.forms.answer_forms import code_of, diff_of, math_of
from nbllm.notebook.forms.answer_tables import dataframe_of

# ------------------------------------------------------------ code


def test_fenced_blocks_are_found_whatever_their_fence() -> None:
    text = "a\n```Python title=x\nx = '```'\n```\n~~~\ny\n~~~~\n"
    text += "   ````js\n   z\n   ````\nend\n```\nopen"
    assert list(blocks_of(text)) == [
        Block("python", "x = '```'"),
        Block("", "y"),
        Block("js", "z"),
        Block("", "open"),
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Here:\n```python\nprint(1)\n```\nDone.", "print(1)"),
        ("```py\na = 1\n```\nthen\n```\nb = 2\n```", "a = 1\n\nb = 2"),
        ("```python\na = 1\n```\nrun\n```bash\nls\n```", "a = 1"),
        ("```bash\nls\n```", "%%bash\nls"),
        ("```html\n<b>x</b>\n```", "%%html\n<b>x</b>"),
        ("x = 1\nprint(x)\n", "x = 1\nprint(x)"),
        ("pattern = '\\d'", "pattern = '\\d'"),
        ("```python\ndef f():\n    return 1", "def f():\n    return 1"),
    ],
)
def test_code_becomes_one_cell(text: str, code: str) -> None:
    assert code_of(text) == code


# ------------------------------------------------------------ JSON

VALUE = {"a": [1, {"b": "}]{"}], "c": None}
WRITTEN = json.dumps(VALUE)


@pytest.mark.parametrize(
    "text",
    [
        WRITTEN,
        f"\n {WRITTEN}\n",
        f"```json\n{WRITTEN}\n```",
        f"Sure! Here it is:\n\n```\n{WRITTEN}\n```\nAnything else?",
        f"The object [this one] is {WRITTEN} as {{you}} asked [1].",
        f"```json\n{WRITTEN}",
    ],
)
def test_json_is_found_in_what_is_around_it(text: str) -> None:
    assert json_of(text) == VALUE


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("No JSON here.", "it has no object or array"),
        ('[{"a": 1}, {"a": 2}, {"a"', "broken JSON at line 1, column 26: .*delimiter"),
        ('[{"a": 1}, {"a": 2},,]', "broken JSON at line 1, column"),
        ('[{"a": 1}, {"a": oops}, {"a": 3}]', "at line 1, column 18: Expecting value"),
        ("[" * 100_000, "nested too deeply|at line"),
    ],
)
def test_broken_json_is_never_taken_in_part(text: str, problem: str) -> None:
    with pytest.raises(AnswerFormError, match=problem) as caught:
        json_of(text)
    assert caught.value.text == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.lists(json_values, min_size=1) | st.dictionaries(st.text(), json_values, min_size=1))
def test_any_json_survives_prose_around_it(value: object) -> None:
    assert json_of(f"Here you are: {json.dumps(value)} That is all.") == value


@given(st.text(alphabet='[]{}",:1a` \n\\', max_size=60))
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (code_of, json_of, dataframe_of, math_of, diff_of):
        with suppress(AnswerFormError):
            parse(text)


# ------------------------------------------------------------ tables


@pytest.mark.parametrize(
    "text",
    [
        '[{"city": "Rome", "size": 2}, {"city": "Oslo", "size": 1}]',
        'As JSON: {"rows": [{"city": "Rome", "size": 2}, {"city": "Oslo", "size": 1}]}',
        '{"city": ["Rome", "Oslo"], "size": [2, 1]}',
        "Here:\n\n| city | size |\n|:-----|-----:|\n| Rome | 2 |\n| Oslo | 1 |\n\nBye.",
        "city | size\n---|---\nRome | 2\nOslo | 1",
        "```csv\ncity,size\nRome,2\nOslo,1\n```",
        "```tsv\ncity\tsize\nRome\t2\nOslo\t1\n```",
        "city, size\nRome, 2\nOslo, 1",
    ],
)
def test_tables_of_every_kind_become_the_same_dataframe(text: str) -> None:
    expected = pd.DataFrame({"city": ["Rome", "Oslo"], "size": [2, 1]})
    pd.testing.assert_frame_equal(dataframe_of(text), expected, check_dtype=False)


def test_cells_with_bars_gaps_and_words_stay_texts() -> None:
    frame = dataframe_of("| a | b |\n|---|---|\n| x \\| y | 1 |\n| | n/a |\n| z |")
    assert frame["a"].tolist()[0] == "x | y"
    assert frame["a"].isna().tolist() == [False, True, False]
    assert frame["b"].tolist()[:2] == ["1", "n/a"]


@pytest.mark.parametrize("text", ["Just words.", "One, two.", "{", "```csv\n\n```"])
def test_what_is_no_table_says_so(text: str) -> None:
    with pytest.raises(AnswerFormError, match="table"):
        dataframe_of(text)


@pytest.mark.parametrize("text", ["[]", "```json\n[]\n```", '{"rows": []}'])
def test_an_empty_list_is_an_empty_dataframe(text: str) -> None:
    assert dataframe_of(text).empty


# ------------------------------------------------------------ JSON that is nearly so


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1,2,]", [1, 2]),
        ("{'a': 1}", {"a": 1}),
        ("{'a': True, \"b\": [None,],}", {"a": True, "b": [None]}),
        ("Sure: {'a': 'it\\'s \"x\"'}.", {"a": 'it\'s "x"'}),
        ('```json\n[{"a": 1},]\n```', [{"a": 1}]),
    ],
)
def test_json_as_python_writes_it_is_read(text: str, value: object) -> None:
    assert json_of(text) == value


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("[1, 2, 34", "[1, 2]"),
        ('[{"a": 1}, {"a": 2, "b', '[{"a": 1}]'),
        ('[{"a": 1, "b": "x', '[{"a": 1}]'),
        ('{"a": [1, {"b": "c", "d', '{"a": [1, {"b": "c"}]}'),
        ("[[1, 2], [3, 4", "[[1, 2]]"),
        ('Here: {"a": tru', "{}"),
        ("{", "{}"),
        ("no bracket", "no bracket"),
        ("[1] and more", "[1] and more"),
        ("[1}", "[1}"),
    ],
)
def test_what_is_complete_of_cut_json_is_kept(text: str, whole: str) -> None:
    assert closed(text) == whole


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(_JSON) | st.dictionaries(st.text(), _JSON), st.data())
def test_json_that_is_cut_anywhere_is_json_once_closed(value: object, data: st.DataObject) -> None:
    written = json.dumps(value)
    cut = written[: data.draw(st.integers(1, len(written)))]
    whole = json.loads(closed(cut))
    if isinstance(value, list):
        assert whole[:-1] == value[: max(len(whole) - 1, 0)]


@given(_JSON)
def test_what_python_prints_of_json_is_read_back(value: object) -> None:
    assert json_of(repr([value])) == [value]


# ------------------------------------------------------------ formulas and diffs


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        (r"It is $$\frac{a}{b}$$ so", r"\frac{a}{b}"),
        (r"First \[ a^2 \] then \[ b \]", "a^2\n\nb"),
        (r"Inline $x_1$ costs \$5 and \(y\)", "x_1\n\ny"),
        ("```latex\n\\[ c \\]\n```", "c"),
        (r"\begin{align}a&=b\end{align}", r"\begin{align}a&=b\end{align}"),
        (r"\sqrt{2}", r"\sqrt{2}"),
    ],
)
def test_formulas_lose_their_delimiters(text: str, latex: str) -> None:
    assert math_of(text) == latex


DIFF = "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n-a = 1\n+a = 2\n b = 3"


@pytest.mark.parametrize("text", [DIFF, f"```diff\n{DIFF}\n```", f"Change:\n{DIFF}\nThat's it."])
def test_a_diff_is_found(text: str) -> None:
    assert diff_of(text) == DIFF


@pytest.mark.parametrize(
    ("parse", "form"), [(math_of, "formula"), (diff_of, "diff"), (code_of, "code")]
)
def test_what_is_missing_is_named(parse, form: str) -> None:
    with pytest.raises(AnswerFormError, match=f"no valid {form} in the answer: ") as caught:
        parse("Only words, sorry.")
    assert caught.value.text == "Only words, sorry."


# ------------------------------------------------------------ schemas


class City(BaseModel):
    name: str
    people: int


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


AS_DICT = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
}


def test_each_kind_of_schema_gives_its_own_values() -> None:
    text = 'Sure: {"name": "Rome", "people": 3}'
    assert answer_schema(City, "C").parse(text) == City(name="Rome", people=3)
    assert answer_schema(AS_DICT, "D").parse(text) == {"name": "Rome", "people": 3}
    assert answer_schema(Point, "P").parse('{"x": 1}') == Point(1, 0)
    assert answer_schema(City, "C").json_schema["required"] == ["name", "people"]


@pytest.mark.parametrize(
    ("schema", "problem"),
    [(City, "name: Field required, and 1 more"), (AS_DICT, "people|name")],
)
def test_an_answer_that_breaks_the_schema_is_told_where(schema: object, problem: str) -> None:
    text = '{"people": "many"}'
    with pytest.raises(AnswerFormError, match=problem) as caught:
        answer_schema(schema, "S").parse(text)
    assert caught.value.text == text


@pytest.mark.parametrize("value", [3, "City", object, print])
def test_what_is_no_schema_says_what_is(value: object) -> None:
    with pytest.raises(InvalidOptionError, match=r"pydantic"):
        answer_schema(value, "wrong")


def test_a_broken_schema_is_the_users_and_told() -> None:
    with pytest.raises(InvalidOptionError, match="/type must be one of"):
        answer_schema({"type": "objekt"}, "S").parse("{}")
