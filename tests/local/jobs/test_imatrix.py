"""Importance matrices: collected from a real model, written and read in llama.cpp's formats."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm import ModelManager
from nbllm.core.errors import InvalidOptionError, ModelFileError, QuantizationError
from nbllm.local.gguf.shape import model_info_from_gguf
from nbllm.local.jobs.imatrix_file import read_imatrix, write_imatrix


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 60


async def test_it_makes_a_quantization_that_needs_one_possible(
    short_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    info = model_info_from_gguf(short_gguf, name="SmolLM2")
    manager = ModelManager([info], folder=tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    seen: list[float] = []
    file = await manager.make_imatrix(
        "SmolLM2", "text.txt", to="x.gguf", chunks=1, progress=seen.append
    )
    rows = read_imatrix(file)
    assert len(rows) == 7 * 2  # all matrices of both layers
    assert rows["blk.0.ffn_down.weight"].shape == (1536,)
    assert all((row >= 0).all() for row in rows.values())
    assert seen == [0]
    [plan] = await manager.plan_quantizations("SmolLM2", ["iq2_xs"], imatrix=file)
    assert plan.label == "IQ2_XS"


async def test_a_text_that_is_too_short_is_told(
    bundled_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manager = ModelManager(folder=tmp_path)
    (tmp_path / "text.txt").write_text("Too short.")
    with pytest.raises(QuantizationError, match=r"has only 3 tokens; at least 512 are needed"):
        await manager.make_imatrix("SmolLM2", "text.txt")
    with pytest.raises(InvalidOptionError, match=r"text: .*none: No such file or directory"):
        await manager.make_imatrix("SmolLM2", "none")
    assert files_in(tmp_path) == ["text.txt"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sums = {
        "blk.0.ffn_up.weight": np.array([[2.0, 4.0, 6.0]], np.float32),
        "blk.0.ffn_up_exps.weight": np.array([[1.0, 2.0], [3.0, 9.0]], np.float32),
    }
    counts = {
        "blk.0.ffn_up.weight": np.array([2.0], np.float32),
        "blk.0.ffn_up_exps.weight": np.array([0.0, 3.0], np.float32),
    }
    file = tmp_path / "x.gguf"
    file.write_bytes(write_imatrix(sums, counts, chunks=3, chunk_tokens=512))
    rows = read_imatrix(file)
    assert rows["blk.0.ffn_up.weight"].tolist() == [1, 2, 3]
    # An expert that was never used counts as ones, as llama-quantize has it.
    assert rows["blk.0.ffn_up_exps.weight"].tolist() == [1, 1, 1, 3]


@pytest.mark.parametrize("alignment", [32, 64, 128])
def test_tensors_are_found_whatever_their_alignment(tmp_path: Path, alignment: int) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "imatrix")
    writer.add_type("imatrix")
    writer.add_custom_alignment(alignment)
    for name, value in (("a", 2.0), ("b", 6.0)):
        writer.add_tensor(f"{name}.in_sum2", np.full(3, value, np.float32))
        writer.add_tensor(f"{name}.counts", np.array([2.0], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rows = read_imatrix(tmp_path / "x.gguf")
    assert {name: row.tolist() for name, row in rows.items()} == {"a": [1.0] * 3, "b": [3.0] * 3}


def test_numbers_of_another_type_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "imatrix")
    writer.add_type("imatrix")
    writer.add_tensor("a.in_sum2", np.ones(4, np.float16))
    writer.add_tensor("a.counts", np.ones(1, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match=r"stores a\.in_sum2 in F16, not in F32"):
        read_imatrix(tmp_path / "x.gguf")


def test_the_older_format_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.dat"
    entry = struct.pack("<i3sii2f", 3, b"abc", 4, 2, 8.0, 2.0)
    file.write_bytes(struct.pack("<i", 1) + entry)
    assert read_imatrix(file)["abc"].tolist() == [2, 0.5]


@given(data=st.binary(max_size=200))
def test_a_stranger_s_file_is_read_or_refused(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("imatrix") / "x"
    file.write_bytes(data)
    with pytest.raises(ModelFileError):
        raise ModelFileError(str(file), str(read_imatrix(file)))
