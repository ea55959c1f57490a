"""Tables of answers: their bounds, and what is told of one without a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.model_manager import ModelManager
from nbllm.core.schemas.answer_schemas import answer_schema
from nbllm.notebook import extension as magics
from nbllm.notebook.forms.answer_tables import dataframe_from
from nbllm.testing import FakeOpener, fake_info


@dataclass
class City:
    name: str
    people: int


FIELDS = {"type": "object", "properties": {"name": {}, "people": {}}}
AROUND = {"type": "object", "properties": {"rows": {"type": "array", "items": FIELDS}}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (list[City], []),
        (list[City | None], []),
        ({"type": "array", "items": FIELDS}, []),
        ({"type": "array", "items": {"$ref": "#/$defs/c"}, "$defs": {"c": FIELDS}}, []),
        (AROUND, {"rows": []}),
    ],
)
def test_a_table_without_a_row_has_the_columns_of_its_schema(schema: Any, value: Any) -> None:
    frame = dataframe_from(value, answer_schema(schema).json_schema)
    assert frame.empty
    assert list(frame.columns) == ["name", "people"]


def test_a_schema_without_fields_gives_no_columns() -> None:
    node: dict[str, Any] = {"type": "array", "items": {"$ref": "#"}}
    assert list(dataframe_from([], node).columns) == []
    assert list(dataframe_from({"a": [], "b": []}).columns) == ["a", "b"]


@pytest.mark.parametrize(
    ("model", "flags", "text", "told"),
    [
        ("hosted", "--as table", "| a |\n|---|", "no rows"),
        ("hosted", "--as dataframe", "[]", "no rows"),
        ("tiny", "--schema Cities --as dataframe", "[]", "no rows"),
        ("tiny", "--as table", json.dumps([{"a": 1}] * 100), "stopped at 100 rows, the limit"),
        ("hosted", "--as table", json.dumps([{"a": 1}] * 100), ""),
        ("tiny", "--as dataframe", '[{"a": 1}]', ""),
    ],
)
def test_the_status_line_tells_of_the_rows(
    shell: InteractiveShell, tmp_path: Path, capsys, model: str, flags: str, text: str, told: str
) -> None:
    models = [fake_info("tiny"), fake_info("hosted", local=False)]
    opener = FakeOpener(text=text)
    magics.load(shell, lambda: ModelManager(models, folder=tmp_path, open_model=opener))
    shell.user_ns["Cities"] = list[City]
    shell.run_cell(f"%%llm {model} {flags} -o frame\nGo").raise_error()
    status = capsys.readouterr().out
    assert told in status
    assert bool(told) == ("rows" in status.rpartition("first token")[2])
    if "schema" in flags:
        assert list(shell.user_ns["frame"].columns) == ["name", "people"]
