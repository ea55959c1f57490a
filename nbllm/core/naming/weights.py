"""Weights that llama.cpp does not read, told by the name of their file, and how to convert them."""

from __future__ import annotations

import re
from pathlib import Path

from nbllm.core.naming.answers import Way, quoted

__all__ = ["FOREIGN", "conversion", "foreign_kind", "is_transformers_folder"]

_KINDS = {
    "safetensors": "Transformers weights (safetensors)",
    "bin|pt|pth|ckpt": "PyTorch weights",
    "onnx|ort": "an ONNX model",
    "h5|keras|tflite|pb|msgpack": "a TensorFlow or JAX model",
    "npz|npy": "MLX or NumPy weights",
    "mlpackage|mlmodel": "a Core ML model",
    "ggml|ggmf|ggjt": "a GGML file, the format before GGUF",
    "llamafile": "a llamafile, a program with a model inside",
    "zip|tar|tgz|gz|7z|rar|xz|zst": "an archive, which must be unpacked first",
}
FOREIGN = "|".join(_KINDS)
"""What the names of such files end in, as alternatives of a regular expression."""

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "consolidated*.pth", "model*.bin")


def foreign_kind(file: str) -> str | None:
    """What a file is by its ending, as "PyTorch weights"; None for other endings."""
    for endings, kind in _KINDS.items():
        if re.search(rf"\.(?:{endings})\Z", file, re.IGNORECASE):
            return kind
    return None


def is_transformers_folder(folder: Path) -> bool:
    """Whether a folder holds a model as Transformers saves it."""
    try:
        return any(next(folder.glob(pattern), None) is not None for pattern in _WEIGHTS)
    except OSError:
        return False


def conversion(folder: str) -> Way:
    """How to make a GGUF of the Transformers weights in ``folder``, "" where none is known."""
    return Way(
        "llama.cpp reads GGUF only. Convert the folder that holds the weights and config.json",
        (
            "!git clone --depth 1 https://github.com/ggml-org/llama.cpp",
            "!pip install -r llama.cpp/requirements/requirements-convert_hf_to_gguf.txt",
            f"!python llama.cpp/convert_hf_to_gguf.py {quoted(folder or 'FOLDER')} "
            "--outfile model.gguf --outtype q8_0",
            "%llm_load model.gguf",
        ),
    )
