from __future__ import annotations

import os
import shutil
from pathlib import Path

import gguf
import pytest
from tiny_models import small_llama, write

from nbllm.core.errors import ModelFileError
from nbllm.core.model_shape import SplitInfo
from nbllm.local.gguf import model_info_from_gguf, read_shape

FUZZ_CASES = int(os.environ.get("NBLLM_FUZZ_CASES", "300"))
U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)


def failure(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_shape(path)
    assert caught.value.model == str(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- the real file


def test_the_bundled_model(bundled_gguf: Path) -> None:
    shape = read_shape(bundled_gguf)
    assert (shape.architecture, shape.kind) == ("llama", "model")
    assert shape.file_size_bytes == bundled_gguf.stat().st_size
    assert (shape.context_length, shape.block_count, shape.embedding_length) == (8192, 30, 576)
    assert (shape.head_count, shape.head_counts_kv) == (9, (3,) * 30)
    assert (shape.key_length, shape.value_length) == (64, 64)
    assert shape.vocabulary_size == 49_152
    assert shape.quantization == "Q4_1"
    assert (shape.expert_count, shape.split, shape.byte_order) == (0, None, "little")
    assert "<|im_start|>" in (shape.chat_template or "")
    assert shape.metadata["llama.rope.freq_base"] == 100_000


def test_the_bundled_model_as_the_package_gguf_reads_it(bundled_gguf: Path) -> None:
    shape, reader = read_shape(bundled_gguf), gguf.GGUFReader(bundled_gguf)
    assert [tensor.name for tensor in shape.tensors] == [t.name for t in reader.tensors]
    assert [list(tensor.shape) for tensor in shape.tensors] == [
        t.shape.tolist() for t in reader.tensors
    ]
    assert [tensor.size_bytes for tensor in shape.tensors] == [t.n_bytes for t in reader.tensors]
    assert [tensor.type_label for tensor in shape.tensors] == [
        t.tensor_type.name for t in reader.tensors
    ]
    assert shape.parameter_count == sum(t.n_elements for t in reader.tensors)
    assert shape.tensor_bytes == sum(t.n_bytes for t in reader.tensors)
    assert shape.bits_per_weight == pytest.approx(5.74, abs=0.01)


def test_the_bundled_model_as_an_entry_of_the_catalogue(bundled_gguf: Path) -> None:
    info = model_info_from_gguf(bundled_gguf, source="bundled")
    assert info.name == "SmolLM2-135M-Instruct.Q4_1"
    assert (info.model_type, info.local, info.path) == ("llama", True, bundled_gguf)
    assert (info.context_length, info.quantization, info.parameters) == (8192, "q4_1", 0.1345)
    assert (info.size_bytes, info.source) == (bundled_gguf.stat().st_size, "bundled")
    assert model_info_from_gguf(str(bundled_gguf), name="mine").name == "mine"


def test_a_relative_path_becomes_absolute(
    bundled_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundled_gguf.parent)
    assert model_info_from_gguf(bundled_gguf.name).path == bundled_gguf


# ---------------------------------------------------------------- files of the package gguf


# ---------------------------------------------------------------- split models


def split_model(folder: Path) -> list[Path]:
    def fill(writer: gguf.GGUFWriter) -> None:
        small_llama(writer)

    write(folder / "big-Q4_0.gguf", fill, split_max_tensors=1)
    return sorted(folder.glob("big-Q4_0-*.gguf"))


def test_the_parts_of_a_split_model_count_together(tiny: Path, tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    assert [part.name for part in parts] == [
        f"big-Q4_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)
    ]
    whole, shape = read_shape(tiny), read_shape(parts[0])
    assert shape.split == SplitInfo(index=0, count=3)
    assert shape.parameter_count == whole.parameter_count
    assert shape.tensor_bytes == whole.tensor_bytes
    assert shape.file_size_bytes == sum(part.stat().st_size for part in parts)
    info = model_info_from_gguf(parts[0])
    assert (info.name, info.size_bytes) == ("big-Q4_0", shape.file_size_bytes)


def test_what_can_be_wrong_with_a_split_model(tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    assert "open big-Q4_0-00001-of-00003.gguf" in failure(parts[1])
    other = tmp_path / "renamed.gguf"
    shutil.copy(parts[0], other)
    assert "must be named …-00001-of-00003.gguf" in failure(other)
    shutil.copy(parts[0], parts[2])
    assert "is not part 3 of the model" in failure_or_empty(parts[0])
    parts[2].write_bytes(b"GGUF")
    assert str(parts[2]) in failure_or_empty(parts[0])
    parts[2].unlink()
    assert "its part big-Q4_0-00003-of-00003.gguf is missing" in failure(parts[0])


def failure_or_empty(path: Path) -> str:
    try:
        read_shape(path)
    except ModelFileError as error:
        return str(error)
    return ""
