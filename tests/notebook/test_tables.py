from dataclasses import replace
from pathlib import Path

import pandas as pd

from nbllm.core.loading.model_loads import ModelStatus
from nbllm.core.placement import MemoryParts, Placement
from nbllm.notebook.tables import make_table, models_table, unloaded_table
from nbllm.testing import fake_info

MIB = 2**20


def test_loaded_models_come_first_under_their_aliases() -> None:
    tiny = fake_info("tiny", size_bytes=92 * MIB, quantization="q4_1", parameters=0.135)
    placement = Placement(
        device="GPU 0",
        memory={"GPU 0": MemoryParts(weights=200 * MIB, kv=90 * MIB, overhead=50 * MIB)},
        context_length=4096,
        parallel=1,
        threads=2,
        batch_threads=2,
        explain=lambda _: "All layers fit.",
    )
    small = fake_info("small", device="GPU 0", memory_bytes=340 * MIB, placement=placement)
    statuses = [
        ModelStatus(
            info=small,
            state="loaded",
            pinned=True,
            keep_alive=600,
            requests=0,
            idle_seconds=12.5,
        ),
        ModelStatus(info=fake_info("gpt-4o", local=False), state="loaded", requests=2),
        ModelStatus(info=replace(tiny, placement=placement), state="loading", fraction=0.5),
    ]
    table = models_table(statuses, [tiny, fake_info("other")])
    assert list(table["name"]) == ["small", "gpt-4o", "tiny", "other"]
    assert list(table["state"][:3]) == ["loaded", "loaded", "loading"]
    assert list(table["loaded on"][:3]) == ["GPU 0", "cloud", "GPU 0"]
    assert pd.isna(table["state"][3])
    assert pd.isna(table["loaded on"][3])
    assert table["file size (MiB)"][2] == 92
    assert table["memory (MiB)"][0] == 340
    assert table["memory (MiB)"][2] == 340, "reserved while it is on its way"
    assert table["parameters (billions)"][2] == 0.135
    assert list(table["requests"][:2]) == [0, 2]
    assert table["last used (s ago)"][0] == 12.5
    assert pd.isna(table["last used (s ago)"][1]), "it is in use"
    assert table["keep-alive (s)"][0] == 600
    assert list(table["pinned"][:2]) == [True, False]
    for view in (repr(table), table._repr_html_()):
        assert "small: All layers fit." in view
        assert "yes" in view


def test_the_notebook_view_is_readable_and_escaped() -> None:
    rows = [
        {"name": "Fast <CPU>", "file size (MiB)": 141_000.4},
        {"name": "x", "file size (MiB)": None},
    ]
    columns = {"name": "string", "file size (MiB)": "Float64", "power (W)": "Float64"}
    table = make_table(rows, columns, notes=["No <AMD> GPU."])
    for view, name in ((table._repr_html_(), "Fast &lt;CPU&gt;"), (repr(table), "Fast <CPU>")):
        assert "141,000" in view
        assert name in view
        assert "<NA>" not in view
        assert "&lt;NA&gt;" not in view
        assert "\N{EN DASH}" in view
        assert "AMD" in view
        assert "power" not in view, "nothing is known in this column"
    assert list(table.columns) == list(columns), "the data keep all columns"
    assert "power" in repr(make_table([], columns))


def test_the_view_names_some_columns_alone_and_leaves_out_those_of_zeros() -> None:
    rows = [{"name": "a", "wait (s)": 0.00138, "parts (s)": 1.0, "failed": 0, "pinned": False}]
    columns = {
        "name": "string",
        "wait (s)": "Float64",
        "parts (s)": "Float64",
        "failed": "Int64",
        "pinned": "boolean",
        "unknown (s)": "Float64",
    }
    hidden = {"more": ["parts (s)", "unknown (s)"], "where_any": ["failed", "pinned"]}
    table = make_table(rows, columns, **hidden)
    assert repr(table).splitlines() == [
        "name wait (s)",
        "a       0.001",
        "The DataFrame also has: parts (s).",
    ]
    assert list(table.columns) == list(columns)
    some = make_table([*rows, {**rows[0], "failed": 1, "pinned": True}], columns, **hidden)
    assert repr(some).splitlines()[0].split() == ["name", "wait", "(s)", "failed", "pinned"]
    assert "pinned" in repr(make_table([], columns, **hidden))


def test_headings_are_broken_within_no_unit() -> None:
    columns = {"speed, 95 % (tokens/s)": "Float64", "last used (s ago)": "Float64"}
    view = make_table([], columns)._repr_html_()
    assert ">speed, 95\N{NO-BREAK SPACE}% (tokens/s)<" in view
    assert ">last used (s\N{NO-BREAK SPACE}ago)<" in view


def test_the_plain_view_sets_words_at_the_left_and_numbers_at_the_right() -> None:
    rows = [{"name": "a", "load (s)": 12.5, "on": "CPU"}, {"name": "bcdefg", "load (s)": 0.0001}]
    table = make_table(rows, {"name": "string", "load (s)": "Float64", "on": "string"})
    assert repr(table).splitlines() == [
        "name   load (s) on",
        "a          12.5 CPU",
        "bcdefg        0 \N{EN DASH}",
    ]


def test_what_is_computed_from_a_table_is_a_dataframe() -> None:
    table = models_table([], [fake_info("a", size_bytes=MIB), fake_info("b")])
    assert type(table[table["file size (MiB)"] < 4]) is pd.DataFrame
    assert type(table.sort_values("name")) is pd.DataFrame


def test_empty_tables_keep_their_columns() -> None:
    assert list(unloaded_table([]).columns) == ["name", "device", "memory freed (MiB)"]
    assert "source" in models_table([], []).columns
    assert repr(unloaded_table([])) == "No model was loaded."  # the columns would say nothing
    assert "<table" not in unloaded_table([])._repr_html_()
    assert "source" in repr(models_table([], []))


def test_a_column_that_only_some_models_have_something_in_is_shown() -> None:
    infos = [fake_info("a"), fake_info("b", companions=(Path("/models/mmproj-b.gguf"),))]
    for each in (infos, infos[::-1]):
        shown = models_table([], each)
        assert "mmproj-b" in repr(shown)
        assert "mmproj-b" in shown._repr_html_()
    assert "companions" not in repr(models_table([], infos[:1]))


def test_what_stands_in_a_table_is_text() -> None:
    shown = make_table([{"model": "<b>a</b> $x$"}], {"model": "string"})._repr_html_()
    assert "&lt;b&gt;a&lt;/b&gt; <span>$</span>x<span>$</span>" in shown
