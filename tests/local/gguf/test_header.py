from __future__ import annotations

import importlib.util
import math
import os
import random
import struct
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refused_files import failure
from tiny_models import write

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import ModelShape
from nbllm.local.gguf.header import read_header
from nbllm.local.gguf.shape import model_info_from_gguf, read_shape
from nbllm.local.gguf.tensor_table import padded
from nbllm.local.gguf.tensor_types import TENSOR_TYPES

FUZZ_CASES = int(os.environ.get("NBLLM_FUZZ_CASES", "300"))
U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)


def failure_or_empty(path: Path) -> str:
    try:
        read_shape(path)
    except ModelFileError as error:
        return str(error)
    return ""


# ---------------------------------------------------------------- what is no GGUF at all

FOREIGN = [
    (b"", "is empty"),
    (b"\n<!DOCTYPE html><html>", "web page"),
    (b"<HTML><body>404", "web page"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied', "XML"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
    (b'\x40\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{}}', "safetensors"),
    (b'{"error": "Invalid credentials"}', "JSON"),
    (b"PK\x03\x04\x00\x00", "ZIP"),
    (b"\x80\x02}q\x00", "pickle"),
    (b"lmgg\x00\x00\x00\x01", "before GGUF"),
    (b"tjgg\x03\x00\x00\x00", "before GGUF"),
    (b"\x1f\x8b\x08\x00", "compressed"),
    (b"\x00" * 5000, "the download is incomplete"),
    (b"MZ\x90\x00", r"begins with b'MZ\x90\x00'"),
    (b"GG", "begins with b'GG'"),
]


@pytest.mark.parametrize(("content", "words"), FOREIGN)
def test_another_kind_of_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    message = failure(path)
    assert "is not a GGUF" in message
    assert words in message


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    assert "No such file" in failure(tmp_path / "none.gguf")
    assert "it is a folder" in failure(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    assert "it is a named pipe" in failure(pipe)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_a_file_that_may_not_be_read(tiny: Path) -> None:
    tiny.chmod(0)
    assert "Permission denied" in failure(tiny)


# ---------------------------------------------------------------- truncated, damaged, hostile


def test_truncated_weights(bundled_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    with bundled_gguf.open("rb") as whole:
        path.write_bytes(whole.read(3_000_000))
    message = failure(path)
    assert "is truncated: its weights end at byte 98362432, but the file ends at 3000000" in message
    assert "3%" in message


def test_a_header_cut_anywhere(tiny: Path) -> None:
    content = tiny.read_bytes()
    for length in range(4, len(content) - 1, 31):
        tiny.write_bytes(content[:length])
        assert "truncated" in failure(tiny)


def text(value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def key(name: bytes | str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + content


def tensor(
    name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0, dims: int | None = None
) -> bytes:
    count = len(shape) if dims is None else dims
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", count, *shape, kind, offset)


LLAMA = key("general.architecture", TEXT, text("llama"))


def number(name: str, value: int) -> bytes:
    return key(f"llama.{name}", U32, struct.pack("<I", value))


def header(
    keys: list[bytes], tensors: list[bytes] | None = None, *, weights: int = 0, **counts: int
) -> bytes:
    tensors = tensors or []
    start = struct.pack(
        "<4sIQQ",
        b"GGUF",
        3,
        counts.get("tensor_count", len(tensors)),
        counts.get("key_count", len(keys)),
    )
    content = b"".join([start, *keys, *tensors])
    return content + bytes(-len(content) % 32 + weights)


HOSTILE = {
    "many tensors": (header([LLAMA], tensor_count=2**63), "claims"),
    "many keys": (header([LLAMA], key_count=2**64 - 1), "claims"),
    "more keys than there are": (header([LLAMA], key_count=60_000), "empty key"),
    "no architecture": (header([]), "names no architecture"),
    "architecture of the wrong type": (
        header([key("general.architecture", U32, bytes(4))]),
        "not a string",
    ),
    "endless key": (header([struct.pack("<Q", 2**64 - 1)]), "a string of"),
    "endless text": (
        header([LLAMA, key("a", TEXT, struct.pack("<Q", 2**63))]),
        "truncated or damaged",
    ),
    "empty key": (header([key("", U8, b"\0")]), "empty key"),
    "key twice": (header([LLAMA, LLAMA]), "duplicate key"),
    "unknown value type": (header([LLAMA, key("a", 13, b"")]), "unknown value type 13"),
    "nested arrays": (
        header([LLAMA, key("a", ARRAY, array(ARRAY, 2**40, array(ARRAY, 2**40)))]),
        "arrays of arrays",
    ),
    "unknown array type": (header([LLAMA, key("a", ARRAY, array(99, 1))]), "unknown value type 99"),
    "endless array of numbers": (
        header([LLAMA, key("a", ARRAY, array(F64, 2**61))]),
        "truncated or damaged",
    ),
    "endless array of texts": (
        header([LLAMA, key("a", ARRAY, array(TEXT, 2**60))]),
        "truncated or damaged",
    ),
    "array of an endless text": (
        header([LLAMA, key("a", ARRAY, array(TEXT, 2, struct.pack("<Q", 2**64 - 1)))]) + bytes(99),
        "truncated or damaged",
    ),
    "array whose last text is endless": (
        header([LLAMA, key("a", ARRAY, array(TEXT, 1, struct.pack("<Q", 2**63)))]) + bytes(99),
        "truncated or damaged",
    ),
    "alignment of zero": (
        header([LLAMA, key("general.alignment", U32, bytes(4))]),
        "not a power of two",
    ),
    "odd alignment": (
        header([LLAMA, key("general.alignment", U32, struct.pack("<I", 33))]),
        "not a power of two",
    ),
    "negative alignment": (
        header([LLAMA, key("general.alignment", I32, struct.pack("<i", -32))]),
        "not a power of two",
    ),
    "alignment in words": (
        header([LLAMA, key("general.alignment", TEXT, text("32"))]),
        "not an integer",
    ),
    "alignment beyond the file": (
        header(
            [LLAMA, key("general.alignment", U64, struct.pack("<Q", 2**63))], [tensor("t", (1,))]
        ),
        "truncated",
    ),
    "five dimensions": (header([LLAMA], [tensor("t", (1,) * 5)]), "5 dimensions"),
    "endless dimensions": (header([LLAMA], [tensor("t", (1,), dims=2**32 - 1)]), "dimensions"),
    "a dimension of zero": (header([LLAMA], [tensor("t", (4, 0))]), "has 0 elements"),
    "more elements than numbers": (
        header([LLAMA], [tensor("t", (2**32, 2**32))]),
        "elements",
    ),
    "half a block": (header([LLAMA], [tensor("t", (33,), kind=2)]), "cannot be stored as Q4_0"),
    "an unknown tensor type": (
        header([LLAMA], [tensor("t", (1,), kind=10**6)]),
        "unknown tensor type",
    ),
    "a tensor twice": (header([LLAMA], [tensor("t", (8,)), tensor("t", (8,), offset=32)]), "same"),
    "weights that overlap": (
        header([LLAMA], [tensor("a", (8,)), tensor("b", (8,))], weights=64),
        "the previous ones end at 32",
    ),
    "weights with a hole": (
        header([LLAMA], [tensor("a", (8,)), tensor("b", (8,), offset=96)], weights=200),
        "the previous ones end at 32",
    ),
    "a new type in less than no place": (
        header([LLAMA], [tensor("t", (8,), kind=200), tensor("u", (8,), offset=2**64 - 1)]),
        "the previous ones end at",
    ),
    "absurd layers": (
        header([LLAMA, number("block_count", 2**32 - 1), number("attention.head_count", 8)]),
        "cannot have 4294967295 layers",
    ),
    "negative heads": (
        header([LLAMA, key("llama.attention.head_count", I32, struct.pack("<i", -4))]),
        "not an integer",
    ),
    "half a layer": (
        header([LLAMA, key("llama.block_count", F32, struct.pack("<f", 2.5))]),
        "not an integer",
    ),
    "layers in words": (header([LLAMA, key("llama.block_count", TEXT, text("2" * 999))]), "…"),
    "truth in the place of a number": (
        header([LLAMA, key("llama.context_length", BOOL, b"\1")]),
        "not an integer",
    ),
    "parts without end": (
        header([LLAMA, key("split.count", U16, b"\xff\xff"), key("split.no", U16, b"\0\0")]),
        "must be named",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_refused_in_words(tmp_path: Path, case: str) -> None:
    content, words = HOSTILE[case]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    assert words in failure(path)


def test_a_heading_of_zero_heads_divides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    keys = [LLAMA, number("embedding_length", 64), number("attention.head_count", 0)]
    path.write_bytes(header(keys))
    assert (read_shape(path).key_length, read_shape(path).head_counts_kv) == (None, ())


def test_a_tensor_type_of_the_future_is_measured_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    tensors = [
        tensor("a", (64,), kind=77),
        tensor("b", (8,), offset=96),
        tensor("c", (64,), 77, 128),
    ]
    path.write_bytes(header([LLAMA], tensors, weights=192))
    shape = read_shape(path)
    assert [one.size_bytes for one in shape.tensors] == [96, 32, 64]
    assert shape.quantization == "type 77"


def test_rows_of_tensors_are_the_same_however_they_are_read(tmp_path: Path) -> None:
    """Short names are split at once; others, and those in the other byte order, one by one."""
    names = ["a", "b" * 255, "c" * 256, "d\x02\0\0\0", "\x01", "é", "f" * 7000, "g.weight", ""]
    shapes = [(8,), (8, 2), (8, 1, 3), (8, 1, 1, 2), (), (64,), (8,), (8, 2), (8,)]
    found = {}
    for order in "<>":
        rows, offset = [], 0
        for name, shape in zip(names, shapes, strict=True):
            stored = name.encode()
            rows.append(struct.pack(f"{order}Q", len(stored)) + stored)
            numbers = (len(shape), *shape, 0, offset)
            rows.append(struct.pack(f"{order}I{len(shape)}QIQ", *numbers))
            offset += padded(4 * math.prod(shape))
        path = tmp_path / f"{ord(order)}.gguf"
        start = struct.pack(f"{order}4sIQQ", b"GGUF", 3, len(names), 0)
        table = start + b"".join(rows)
        path.write_bytes(table.ljust(padded(len(table)) + offset, b"\0"))
        found[order] = read_header(path)
    assert [one.name for one in found["<"].tensors] == names
    assert [one.shape for one in found["<"].tensors] == shapes
    assert found["<"].tensors == found[">"].tensors
    assert found["<"].data_offset == found[">"].data_offset


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_texts_at_every_edge_of_the_window(tmp_path: Path, shift: int) -> None:
    pad = key("pad", TEXT, text(b"x" * (2**18 - 200 + shift)))
    texts = b"".join(text(b"y" * length) for length in [0, 1, 2, 300_000, 5, 600_000, 0, 7] * 2)
    keys = [LLAMA, pad, key("tokenizer.ggml.tokens", ARRAY, array(TEXT, 16, texts))]
    path = tmp_path / "m.gguf"
    path.write_bytes(header([*keys, number("block_count", 3)]))
    shape = read_shape(path)
    assert (shape.vocabulary_size, shape.block_count) == (16, 3)


# ---------------------------------------------------------------- time and memory


@pytest.fixture(scope="session")
def large_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A header with the 128,256 tokens, scores and types of a model such as Llama 3."""
    chooser = random.Random(3)
    words = [bytes(chooser.choices(b"abcdefgh", k=chooser.randint(1, 14))) for _ in range(128_256)]
    keys = [
        LLAMA,
        number("block_count", 32),
        key("tokenizer.ggml.tokens", ARRAY, array(TEXT, len(words), b"".join(map(text, words)))),
        key("tokenizer.ggml.scores", ARRAY, array(F32, len(words), bytes(4 * len(words)))),
        key("tokenizer.ggml.token_type", ARRAY, array(I32, len(words), bytes(4 * len(words)))),
    ]
    tensors = [tensor(f"blk.{n}.weight", (8,), offset=32 * n) for n in range(291)]
    path = tmp_path_factory.mktemp("large") / "large.gguf"
    path.write_bytes(header(keys, tensors, weights=32 * 291))
    return path


def test_a_vocabulary_of_128k_tokens_takes_at_most_20_ms(large_vocabulary: Path) -> None:
    """By the best of many tries of this thread's own time, which other processes do not lengthen
    but by what they take of the caches."""
    for _ in range(100):
        started = time.thread_time()
        assert read_shape(large_vocabulary).vocabulary_size == 128_256
        if time.thread_time() - started < 0.020:
            return
    pytest.fail("no reading of a hundred took less than 20 ms")


def test_a_large_vocabulary_is_kept_in_memory_once(large_vocabulary: Path) -> None:
    first = peak_mib(lambda: read_shape(large_vocabulary))
    assert first < 16 + 2, "its bytes are kept, up to 16 MiB, to pass over those of the next file"
    assert peak_mib(lambda: read_shape(large_vocabulary)) < 2


@pytest.mark.parametrize("order", ["same", "first", "middle", "last", "longer", "moved", "cut"])
def test_a_vocabulary_like_an_earlier_one_is_read_as_it_is(tmp_path: Path, order: str) -> None:
    words = [b"w%05d" % number for number in range(20_000)]
    others = {
        "same": words,
        "first": [b"another", *words[1:]],
        "middle": [*words[:7_001], b"another", *words[7_002:]],
        "last": [*words[:-1], b"another"],
        "moved": [
            *words[:7_001],
            words[7_001] + b"x" * 6,
            *words[7_002:9_000],
            b"",
            *words[9_001:],
        ],
        "longer": [*words[:9_999], b"x" * 300, *words[10_000:]],
        "cut": words,
    }

    def write(name: str, chosen: list[bytes]) -> Path:
        texts = array(TEXT, len(chosen), b"".join(map(text, chosen)))
        keys = [LLAMA, key("tokenizer.ggml.tokens", ARRAY, texts), number("block_count", 1)]
        path = tmp_path / name
        path.write_bytes(header(keys, [tensor("blk.0.weight", (8,))], weights=32))
        return path

    known = read_shape(write("known.gguf", words))
    path = write("other.gguf", others[order])
    if order == "cut":
        path.write_bytes(path.read_bytes()[:200_000])
        with pytest.raises(ModelFileError, match="truncated"):
            read_shape(path)
        with pytest.raises(ModelFileError, match="truncated"):
            model_info_from_gguf(path)
    else:
        assert model_info_from_gguf(path).size_bytes == path.stat().st_size
        assert read_shape(path).metadata == known.metadata
        assert read_shape(path).tensors == known.tensors


def peak_mib(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_much_data_costs_bounded_time_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    long_text = struct.pack("<Q", 2**19) + bytes(2**19)
    keys = [key(f"a{n}", TEXT, long_text) for n in range(60)]
    path.write_bytes(header([LLAMA, *keys]))
    assert peak_mib(lambda: read_shape(path)) < 24
    with path.open("r+b") as file:  # and a sparse file that is one array of empty texts
        file.write(header([LLAMA, key("a", ARRAY, array(TEXT, 2**23))]))
        file.truncate(2**40)
    started = time.perf_counter()
    assert peak_mib(lambda: failure_or_empty(path)) < 2
    assert time.perf_counter() - started < 20


# ---------------------------------------------------------------- fuzz


def mutated(content: bytes, chooser: random.Random) -> bytes:
    """A few bytes flipped, overwritten with hard numbers, cut out, doubled or cut off."""
    damaged = bytearray(content)
    for _ in range(chooser.choice([1, 1, 1, 2, 4, 16])):
        place = chooser.randrange(max(1, len(damaged)))
        match chooser.randrange(6):
            case 0:
                damaged[place : place + 1] = bytes([chooser.randrange(256)])
            case 1:
                damaged[place : place + 1] = bytes(
                    [content[place % len(content)] ^ (1 << chooser.randrange(8))]
                )
            case 2:
                hard = chooser.choice([0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1])
                damaged[place : place + 8] = struct.pack("<Q", hard)
            case 3:
                del damaged[place : place + chooser.randrange(1, 40)]
            case 4:
                damaged[place:place] = damaged[place : place + chooser.randrange(1, 40)]
            case 5:
                del damaged[place:]
    return bytes(damaged)


@pytest.fixture(scope="module")
def real_header(bundled_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bundled model's header with 64 tokens and merges of its 49,152, and tiny weights."""
    reader = gguf.GGUFReader(bundled_gguf)

    def fill(writer: gguf.GGUFWriter) -> None:
        for name, entry in reader.fields.items():
            if name.startswith("GGUF.") or name == "general.architecture":
                continue
            value = entry.contents()
            value = value[:64] if isinstance(value, list) else value
            sub_type = entry.types[1] if len(entry.types) > 1 else None
            writer.add_key_value(name, value, entry.types[0], sub_type)
        for one in reader.tensors[:40]:
            writer.add_tensor(one.name, np.zeros(32, np.float32))

    return write(tmp_path_factory.mktemp("real") / "real.gguf", fill).read_bytes()


def test_mutated_real_headers_are_read_or_refused(real_header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for seed in range(FUZZ_CASES):
        path.write_bytes(mutated(real_header, random.Random(seed)))
        started = time.perf_counter()
        outcomes[outcome(path)] += 1
        slowest = max(slowest, time.perf_counter() - started)
    print(f"{dict(outcomes)}, slowest {slowest * 1e3:.1f} ms")
    assert outcomes["refused"] > FUZZ_CASES / 2
    assert outcomes["read"] > 0
    assert slowest < 5


def outcome(path: Path) -> str:
    """Anything but a shape or a ``ModelFileError`` fails the test."""
    try:
        shape = read_shape(path)
    except ModelFileError:
        return "refused"
    assert isinstance(shape, ModelShape)
    assert repr(shape)
    model_info_from_gguf(path)
    return "read"


REFERENCE = """
import ctypes, sys

class Parameters(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]

library = ctypes.CDLL(sys.argv[1])
library.gguf_init_from_file.restype = ctypes.c_void_p
library.gguf_init_from_file.argtypes = [ctypes.c_char_p, Parameters]
library.gguf_free.argtypes = [ctypes.c_void_p]
for line in sys.stdin:
    header = library.gguf_init_from_file(line.strip().encode(), Parameters(True, None))
    print("refused" if header is None else "read", flush=True)
    library.gguf_free(header)
"""


def test_the_reference_reader_agrees(real_header: bytes, tmp_path: Path) -> None:
    """It stops at the header and knows its own tensor types only; in all else the two agree."""
    home = importlib.util.find_spec("llama_cpp")
    assert home is not None
    assert home.origin is not None
    libraries = Path(home.origin).parent / "lib"
    found = [libraries / name for name in ("libggml-base.so", "libggml-base.dylib")]
    library = next((path for path in found if path.exists()), None)
    if library is None:
        pytest.skip(f"llama.cpp's library of the reference reader is not in {libraries}")
    paths = [tmp_path / f"{seed}.gguf" for seed in range(FUZZ_CASES)]
    for seed, path in enumerate(paths):
        path.write_bytes(mutated(real_header, random.Random(seed)))
    answers = subprocess.run(
        [sys.executable, "-c", REFERENCE, library],
        input="\n".join(map(str, paths)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    ).stdout.split()
    for path, theirs in zip(paths, answers, strict=True):
        message = failure_or_empty(path)
        if "its weights end at" in message:
            continue
        ours = "refused" if message else "read"
        assert ours == theirs or (ours == "read" and has_a_new_type(path)), (path.stem, message)


def has_a_new_type(path: Path) -> bool:
    return any(tensor.type_number not in TENSOR_TYPES for tensor in read_header(path).tensors)


names = st.sampled_from(
    [
        "",
        "general.architecture",
        "general.alignment",
        "llama.block_count",
        "llama.attention.head_count",
        "split.no",
        "split.count",
        "tokenizer.ggml.tokens",
    ]
)
numbers = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2, 32, 2**31, 2**63, 2**64 - 1])
pieces = st.one_of(
    st.builds(lambda n, v: key(n, U64, struct.pack("<Q", v)), names, numbers),
    st.builds(lambda n, v: key(n, TEXT, text(v)), names, st.binary(max_size=20)),
    st.builds(
        lambda n, kind, count, content: key(n, ARRAY, array(kind, count, content)),
        names,
        st.integers(0, 14),
        numbers | st.integers(0, 4),
        st.binary(max_size=40),
    ),
    st.builds(
        lambda n, kind, content: key(n, kind, content), names, st.integers(0, 14), st.binary()
    ),
)
described = st.builds(
    tensor,
    st.text(max_size=5),
    st.lists(numbers | st.integers(0, 64), max_size=4).map(tuple),
    st.integers(0, 50) | st.integers(0, 2**32 - 1),
    numbers | st.just(0),
)


@settings(
    max_examples=max(100, FUZZ_CASES // 3),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    keys=st.lists(pieces, max_size=4),
    tensors=st.lists(described, max_size=3),
    architecture=st.booleans(),
    tail=st.binary(max_size=100),
)
def test_any_header_is_read_or_refused(
    tmp_path: Path, keys: list[bytes], tensors: list[bytes], *, architecture: bool, tail: bytes
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header([LLAMA, *keys] if architecture else keys, tensors) + tail)
    outcome(path)
