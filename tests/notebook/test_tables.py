import pandas as pd

from nbllm.notebook.tables import make_table, models_table, unloaded_table
from nbllm.testing import fake_info

MIB = 2**20


def test_loaded_models_come_first_under_their_aliases() -> None:
    tiny = fake_info("tiny", size_bytes=92 * MIB, quantization="q4_1", parameters=0.135)
    loaded = [
        fake_info("small", device="GPU 0", memory_bytes=300 * MIB),
        fake_info("gpt-4o", local=False),
        tiny,
    ]
    table = models_table(loaded, [tiny, fake_info("other")])
    assert list(table["name"]) == ["small", "gpt-4o", "tiny", "other"]
    assert list(table["loaded on"][:2]) == ["GPU 0", "cloud"]
    assert pd.isna(table["loaded on"][3])
    assert table["size (MiB)"][2] == 92
    assert table["memory (MiB)"][0] == 300
    assert table["parameters (billions)"][2] == 0.135


def test_the_notebook_view_is_readable_and_escaped() -> None:
    rows = [{"name": "Fast <CPU>", "size (MiB)": 141_000.4}, {"name": "x", "size (MiB)": None}]
    columns = {"name": "string", "size (MiB)": "Float64", "power (W)": "Float64"}
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


def test_what_is_computed_from_a_table_is_a_dataframe() -> None:
    table = models_table([], [fake_info("a", size_bytes=MIB), fake_info("b")])
    assert type(table[table["size (MiB)"] < 4]) is pd.DataFrame
    assert type(table.sort_values("name")) is pd.DataFrame


def test_empty_tables_keep_their_columns() -> None:
    assert list(unloaded_table([]).columns) == ["name", "was on", "freed (MiB)"]
    assert "source" in models_table([], []).columns
    assert repr(models_table([], []))
