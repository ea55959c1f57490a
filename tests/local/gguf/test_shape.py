from __future__ import annotations

import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from refused_files import failure
from tiny_models import small_llama, write

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import SplitInfo
from nbllm.local.gguf.shape import model_info_from_gguf, read_shape
from nbllm.local.gguf.tensor_types import FILE_TYPES, TENSOR_TYPES

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


def test_both_byte_orders_give_the_same_shape(tiny: Path, tmp_path: Path) -> None:
    big = write(tmp_path / "big.gguf", small_llama, endianess=gguf.GGUFEndian.BIG)
    from_little, from_big = read_shape(tiny), read_shape(big)
    assert (from_little.byte_order, from_big.byte_order) == ("little", "big")
    for name in ("context_length", "head_counts_kv", "parameter_count", "chat_template", "tensors"):
        assert getattr(from_little, name) == getattr(from_big, name)
    assert from_little.metadata == from_big.metadata
    assert from_big.name == "Tiny"


def test_version_2_is_read_and_others_are_named(tiny: Path) -> None:
    content = bytearray(tiny.read_bytes())
    content[4] = 2
    tiny.write_bytes(content)
    assert read_shape(tiny).context_length == 4096
    for version in (0, 1, 4, 2**15):
        content[4:8] = struct.pack("<I", version)
        tiny.write_bytes(content)
        assert f"is GGUF version {version}" in failure(tiny)


def test_without_a_file_type_the_weights_tell_the_quantization(tiny: Path) -> None:
    assert read_shape(tiny).quantization == "F32"


@pytest.mark.parametrize(
    ("number", "label"), [(15, "Q4_K_M"), (15 + 1024, "Q4_K_M"), (38, "MXFP4_MOE"), (999, "F16")]
)
def test_the_file_type_names_the_quantization(tmp_path: Path, number: int, label: str) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_file_type(number)
        writer.add_tensor("a.weight", np.zeros((8, 8), np.float16))

    path = write(tmp_path / "m.gguf", fill)
    assert read_shape(path).quantization == label
    assert model_info_from_gguf(path).quantization == label.lower()


def test_experts_and_layers_that_differ(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(3)
        writer.add_embedding_length(1024)
        writer.add_head_count([16, 8, 16])
        writer.add_head_count_kv([4, 0, 2])
        writer.add_key_length(192)
        writer.add_value_length(128)
        writer.add_expert_count(64)
        writer.add_expert_used_count(6)
        writer.add_vocab_size(7)
        writer.add_sliding_window(512)

    shape = read_shape(write(tmp_path / "moe.gguf", fill, "deepseek2"))
    assert (shape.head_count, shape.head_counts_kv) == (16, (4, 0, 2))
    assert (shape.key_length, shape.value_length) == (192, 128)
    assert (shape.expert_count, shape.expert_used_count) == (64, 6)
    assert (shape.vocabulary_size, shape.parameter_count, shape.bits_per_weight) == (7, 0, None)
    assert shape.metadata["deepseek2.attention.sliding_window"] == 512


def test_a_model_without_head_count_kv_has_one_for_each_head(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(2)
        writer.add_head_count(12)

    assert read_shape(write(tmp_path / "m.gguf", fill)).head_counts_kv == (12, 12)


def test_an_adapter_and_a_projector_say_what_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", lambda writer: writer.add_type("mmproj"), "clip")
    assert (read_shape(path).kind, read_shape(path).architecture) == ("mmproj", "clip")


def test_an_alignment_of_its_own(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_custom_alignment(1024)
        small_llama(writer)

    path = write(tmp_path / "m.gguf", fill)
    assert read_shape(path).parameter_count == 100 * 64 + 64 * 64 + 64


def test_values_of_every_type_are_kept(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        for number, kind in enumerate(("uint8", "int8", "uint16", "int16", "uint32", "int32")):
            getattr(writer, f"add_{kind}")(f"x.{kind}", number)
        writer.add_uint64("x.uint64", 2**63)
        writer.add_int64("x.int64", -(2**62))
        writer.add_float32("x.float32", 0.5)
        writer.add_float64("x.float64", 0.1)
        writer.add_bool("x.bool", val=True)
        writer.add_string("x.string", "ö" * 1000)
        writer.add_array("x.flags", [True, False])
        writer.add_array("x.texts", ["a", "b"])
        writer.add_array("x.long", list(range(5000)))

    metadata = read_shape(write(tmp_path / "m.gguf", fill)).metadata
    values = {key: value for key, value in metadata.items() if key.startswith("x.")}
    assert values == {
        "x.uint8": 0,
        "x.int8": 1,
        "x.uint16": 2,
        "x.int16": 3,
        "x.uint32": 4,
        "x.int32": 5,
        "x.uint64": 2**63,
        "x.int64": -(2**62),
        "x.float32": 0.5,
        "x.float64": 0.1,
        "x.bool": True,
        "x.string": "ö" * 1000,
        "x.flags": (True, False),
    }


def test_the_tables_are_those_of_the_package_gguf() -> None:
    theirs = {
        int(kind): (kind.name, *sizes) for kind, sizes in gguf.constants.GGML_QUANT_SIZES.items()
    }
    assert theirs == {
        number: tuple(kind) for number, kind in TENSOR_TYPES.items() if number in theirs
    }
    labels = {
        int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind != gguf.LlamaFileType.GUESSED
    }
    assert labels == {number: label for number, label in FILE_TYPES.items() if number in labels}


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
