"""Paths that lead to no model: folders, missing files, weights that llama.cpp does not read."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from nbllm.core.catalogue.listing import Listing, found_models
from nbllm.core.catalogue.ollama import ollama_names
from nbllm.core.errors import ModelFileError
from nbllm.core.naming.name_answers import Answer, Known, Way
from nbllm.core.paths import absolute_path, is_gguf, printable
from nbllm.core.suggest import nearest
from nbllm.core.texts import quoted
from nbllm.core.types import ModelInfo

__all__ = [
    "FOREIGN",
    "conversion",
    "folder_entry",
    "foreign_kind",
    "is_transformers_folder",
    "missing_file",
    "other_weights",
    "path_like",
    "windows_path",
]

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


_MOST_LISTED = 10
_WINDOWS = re.compile(r"(?P<drive>[A-Za-z]):[\\/](?P<rest>.*)|\\\\(?P<share>[^\\]+\\.*)", re.DOTALL)
_PATH = re.compile(r"(?:[/~\\$%]|\.{1,2}(?:[/\\]|\Z))|.*[/\\]\Z", re.DOTALL)
_HUB_FILE = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)/(?P<file>[\w./-]+\.gguf)", re.IGNORECASE)


def folder_entry(folder: Path) -> ModelInfo:
    """The one model in a folder. Raises ``ModelFileError`` that lists them, or says what is there.

    So what was downloaded into a folder of its own is loaded by the folder's name.
    """
    listing = found_models(folder)
    if len(listing.models) == 1:
        return listing.models[0]
    raise ModelFileError(printable(str(folder)), _folder_words(folder, listing))


def _folder_words(folder: Path, listing: Listing) -> str:
    if listing.models:
        lead = f"it is a folder with {len(listing.models):,} models. Load one of them"
        lines = [_load(each.path) for each in listing.models if each.path is not None]
        left = len(lines) - _MOST_LISTED
        more = [f"and {left:,} more"] if left > 0 else []
        return str(Way(lead, (*lines[:_MOST_LISTED], *more)))
    if is_transformers_folder(folder):
        kind = "it is a folder of Transformers weights, without a GGUF in it."
        return f"{kind}\n{conversion(str(folder))}"
    if (folder / "manifests").is_dir() and (names := ollama_names(folder)):
        lead = "it is an Ollama model folder. Load one of its models"
        return str(Way(lead, tuple(f"%llm_load ollama/{each}" for each in names[:_MOST_LISTED])))
    notes = "".join(f" {note}" for note in listing.notes)
    return f"it is a folder without GGUF files (searched three levels deep).{notes}"


def _load(path: Path) -> str:
    return f"%llm_load {quoted(printable(str(path)))}"


def missing_file(name: str, path: Path, known: Known) -> ModelFileError:
    """The error for the path of a GGUF that is not there, with what is near it."""
    answer = windows_path(name, known) or _near_path(name, path, known)
    words = "\n".join(filter(None, [answer.what, *map(str, answer.ways or _from_hub(name))]))
    return ModelFileError(printable(str(path)), f"No such file or directory. {words}".rstrip())


def _from_hub(name: str) -> tuple[Way, ...]:
    """The way to ``org/repo/file.gguf``, as Hugging Face's pages write it."""
    found = _HUB_FILE.fullmatch(name)
    if found is None or Path(found["repo"].partition("/")[0]).exists():
        return ()
    lines = (
        f"%llm_pull hf.co/{found['repo']}/{found['file']}",
        f"%llm_load {Path(found['file']).stem}",
    )
    return (Way("If it is on Hugging Face, download it first", lines),)


def _near_path(name: str, path: Path, known: Known) -> Answer:
    """What a path may have meant: with variables replaced, beside it, or elsewhere."""
    if (meant := _expanded(name)) is not None:
        lead = "Variables and backslashes in paths are not expanded. This path exists"
        return Answer(ways=(Way(lead, (_load(meant),)),))
    near = _files_near(path)
    if near:
        return Answer(
            ways=(Way(f"Files in {printable(str(path.parent))}", tuple(map(_load, near))),)
        )
    parent = _first_missing(path)
    what = f"The folder {printable(str(parent))} does not exist." if parent != path else ""
    alike = nearest(path.stem, [each.name for each in known.infos])
    ways = (Way("Similar names", tuple(f"%llm_load {quoted(each)}" for each in alike)),)
    return Answer(what, ways if alike else ())


def _expanded(name: str) -> Path | None:
    """The path with the environment's variables replaced, or with slashes, where it is there."""
    unescaped = name.replace("\\ ", " ")
    for written in (os.path.expandvars(name), unescaped, name.replace("\\", "/")):
        with suppress(OSError, ValueError):
            if written != name and (path := absolute_path(written)).exists():
                return path
    return None


def _files_near(path: Path) -> list[Path]:
    """GGUFs beside a path, the most alike first."""
    with suppress(OSError, ValueError):
        names = [each.name for each in os.scandir(path.parent) if is_gguf(each.name)]
        alike = nearest(path.stem, names, count=5)
        return [path.parent / each for each in alike or sorted(names)[:5]]
    return []


def _first_missing(path: Path) -> Path:
    """The outermost part of a path that is not there."""
    for part in (*reversed(path.parents), path):
        with suppress(OSError, ValueError):
            if not part.exists():
                return part
    return path


def windows_path(name: str, known: Known) -> Answer | None:
    r"""``C:\models\x.gguf`` on a machine that has not Windows."""
    found = _WINDOWS.match(name)
    if found is None or os.name == "nt":
        return None
    what = "This is a Windows path, but the kernel does not run on Windows."
    if found["drive"] is None:
        return Answer(f"{what} Copy the file to this machine, or mount the share.")
    there = Path("/mnt", found["drive"].lower(), *re.split(r"[\\/]+", found["rest"]))
    if not there.parent.exists():
        return Answer(f"{what} Copy or upload the file to this machine, and give its path here.")
    return Answer(what, (Way("In WSL, the same file is", (_load(there),)),))


def path_like(name: str, known: Known) -> Answer | None:
    """A path without ``.gguf`` at its end that leads nowhere."""
    if not _PATH.match(name):
        return None
    try:
        answer = _near_path(name, absolute_path(name), known)
    except ValueError as error:
        return Answer(f"This path cannot be used: {error}.")
    return Answer(answer.what or "No such file or folder.", answer.ways)


def other_weights(name: str, known: Known) -> Answer | None:
    """The name of a file of weights for other programs; one that is there is looked into."""
    kind = foreign_kind(name)
    if kind is None:
        return None
    if kind.startswith("a llamafile"):
        lines = (f"./{name} --server --nobrowser", "%llm_load http://localhost:8080")
        return Answer(f"This is {kind}.", (Way("Start it in a terminal", lines),))
    folder = name.replace("\\", "/").rpartition("/")[0]
    what = f"The file was not found. Its name suggests {kind}."
    return Answer(what) if kind.startswith("an archive") else Answer(what, (conversion(folder),))
