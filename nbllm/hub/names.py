"""What a person writes to name a model that must be downloaded, taken apart; asks no network.

Names of repositories follow the hub's own rule (``huggingface_hub.utils.validate_repo_id``), and
paths of files are checked here: both become paths on this disk, and a stranger chose them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from nbllm.core.errors import InvalidOptionError
from nbllm.core.paths import is_gguf
from nbllm.core.texts import shown

__all__ = ["HubName", "WebName", "parse_name", "unsafe_path"]

_HUB = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/|hf://)?(?:models/)?"
    r"(?P<repo>[^/:?#\s]+/[^/:?#\s@]+)"
    r"(?:@(?P<at>[^/:?#\s]+))?"
    r"(?::(?P<quant>[^/?#\s]+))?"
    r"(?:/(?:(?:blob|resolve|raw|tree)/(?P<revision>[^/?#]+))?(?:/?(?P<file>[^?#]+?))?)?/?"
    r"(?:[?#].*)?",
    re.IGNORECASE,
)
_HOST = r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)"
_LOCAL = re.compile(r"~|\.{0,2}[/\\]|[a-z]:[/\\]|file:|.*\\", re.IGNORECASE | re.DOTALL)
_HUB_HOST = re.compile(_HOST, re.IGNORECASE)
_NO_REPOSITORY = re.compile(rf"{_HOST}(?:/[^/?#]*)?/?(?:[?#].*)?", re.IGNORECASE)
_OTHER_PAGE = re.compile(
    rf"(?:{_HOST}/|hf://)?(datasets|spaces|buckets|collections|papers|docs|blog|organizations)/\S+/\S+",
    re.IGNORECASE,
)
_OLLAMA = re.compile(
    r"(?:https?://)?(?:www\.)?(?:registry\.)?ollama\.(?:com|ai)/(?:library/)?(?P<model>[^/?#\s]+).*",
    re.IGNORECASE,
)
_OTHER_HOST = re.compile(r"(?:[\w-]+\.)+(?:com|org|net|io)/.*", re.IGNORECASE)
_OTHER_FORMAT = re.compile(
    r"\.(?:bin|ckpt|ggml|h5|keras|mlmodel|msgpack|npz|onnx|pkl|pt|pth|safetensors|tflite)$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s/@{}]+")
_REPOSITORY = re.compile(r"\w[\w.-]*/\w(?:[\w.-]*\w)?", re.ASCII)
_REVISION = re.compile(r"\w[\w./-]{0,199}", re.ASCII)
_MOST_REPOSITORY, _MOST_PATH, _MOST_PART = 96, 512, 200
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_FORBIDDEN = frozenset('<>:"|?*\\')


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of the hub, a ``revision`` of it, and what of it is meant.

    ``file`` is the path of one file, ``quant`` a quantization such as "Q4_K_M"; each is None
    where it was not written.
    """

    repository: str
    revision: str = "main"
    file: str | None = None
    quant: str | None = None

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision != "main" else ""
        return f"hf.co/{self.repository}{at}" + (f":{self.quant}" if self.quant else "")


@dataclass(frozen=True, slots=True)
class WebName:
    """The https address of one GGUF; ``file`` is its name."""

    address: str
    file: str

    def __str__(self) -> str:
        return self.address.partition("?")[0]  # what is behind it may be a secret


def parse_name(name: str) -> HubName | WebName:
    """The model that ``name`` means. Raises ``InvalidOptionError`` where it means none.

    It is ``owner/repository``, with ``hf.co/`` before it or not, with ``:QUANTIZATION`` behind it
    or not; the address of a repository or a file on the hub; or another https address of a GGUF.
    """
    text = name.strip() if isinstance(name, str) else ""
    if problem := _no_download(text):
        raise _invalid(problem)
    found = _HUB.fullmatch(text)
    if found is not None:
        return _hub_name(found)
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        return _web_name(text)
    raise _invalid(
        f"{shown(name)} is neither a repository of Hugging Face nor an https address. {_FORMS}"
    )


_FORMS = "Write hf.co/OWNER/REPOSITORY, OWNER/REPOSITORY:Q4_K_M, or https://HOST/FILE.gguf"


def _no_download(text: str) -> str:
    """Why what was written names no download, where it is recognized as something else."""
    if not text:
        return f"it is empty. {_FORMS}"
    if _LOCAL.match(text):
        return (
            f"{shown(text)} is a path, and what is on this machine needs no download. Load a "
            "model file with %llm_load PATH. A repository is written OWNER/REPOSITORY"
        )
    if _NO_REPOSITORY.fullmatch(text):
        return f"{shown(text)} names no repository. Write hf.co/OWNER/REPOSITORY"
    if page := _OTHER_PAGE.fullmatch(text):
        return (
            f"{shown(text)} is under {page[1].lower()}/ on Hugging Face, which has no models. "
            "Write hf.co/OWNER/REPOSITORY"
        )
    if ollama := _OLLAMA.fullmatch(text):
        return (
            f"{shown(text)} is in Ollama's library, which only Ollama downloads from. Run "
            f"!ollama pull {ollama['model']}; then %llm_models --source ollama lists it"
        )
    if _OTHER_HOST.fullmatch(text) and not _HUB_HOST.match(text):
        return (
            f"{shown(text)} is an address of another host. Write all of it, up to the file: "
            "https://HOST/FILE.gguf"
        )
    return _one_word(text) if _WORD.fullmatch(text) else ""


def _one_word(text: str) -> str:
    """A file, or a model's name as other programs have it."""
    if is_gguf(text):
        return (
            f"{shown(text)} is a file's name and doesn't say where it is. Write "
            f"hf.co/OWNER/REPOSITORY/{shown(text)[1:-1]} or its whole https address. A file on "
            "this machine needs no download: %llm_load PATH"
        )
    return (
        f"{shown(text)} has no owner. Write OWNER/REPOSITORY or OWNER/REPOSITORY:Q4_K_M, as the "
        f"hub lists it: {_search(text)}"
    )


def _hub_name(found: re.Match[str]) -> HubName:
    repository, file = found["repo"], unquote(found["file"] or "").strip("/") or None
    revision = unquote(found["revision"] or found["at"] or "main")
    if not _is_repository(repository):
        raise _invalid(f"{shown(repository)} is not a valid repository name (OWNER/REPOSITORY)")
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise _invalid(f"{shown(revision)} is not a valid revision (a branch, tag or commit)")
    if file is not None and (problem := unsafe_path(file)):
        raise _invalid(f"the file name {shown(file)} is refused: {problem}")
    if file is not None and not is_gguf(file):
        raise _invalid(_no_gguf(repository, file))
    return HubName(repository, revision, file, found["quant"])


def _no_gguf(repository: str, file: str) -> str:
    """What is said of a file in another format, a folder, or a page about the repository."""
    if _OTHER_FORMAT.search(file):
        return (
            f"{shown(file)} is not a GGUF, and llama.cpp reads no other format. Search for a GGUF "
            f"of the model: {_search(repository.partition('/')[2])}"
        )
    return (
        f"{shown(file)} is not a model file of {repository}. %llm_pull {repository} --list lists "
        f"its variants; one file is written hf.co/{repository}/FILE.gguf"
    )


def _search(text: str) -> str:
    """The hub's search for GGUFs of what ``text`` names."""
    words = quote(" ".join(re.findall(r"[\w.]+", text[:100])))
    return f"https://huggingface.co/models?library=gguf&search={words}"


def _is_repository(name: str) -> bool:
    if len(name) > _MOST_REPOSITORY or "--" in name or ".." in name or name.endswith(".git"):
        return False
    return _REPOSITORY.fullmatch(name) is not None


def _web_name(address: str) -> WebName:
    try:
        parts = urlsplit(address)
        is_valid = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        is_valid = False
    if is_valid and parts.username is not None:  # nothing of it is shown: it holds a secret
        raise _invalid(
            "an address with a user name or a password in it is not supported; "
            f"write https://{parts.hostname}{parts.path}"
        )
    if not is_valid:
        raise _invalid(f"{shown(address)} is not a valid address such as https://HOST/FILE.gguf")
    is_here = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme.lower() != "https" and not (parts.scheme.lower() == "http" and is_here):
        raise _invalid(f"{parts.scheme}:// is not supported; write an https address")
    file = unquote(parts.path.rpartition("/")[2])
    if not is_gguf(file):
        what = f"{shown(file)} is not a GGUF" if file else f"{shown(address)} names no file"
        raise _invalid(f"{what}. An address must end in the name of one: https://HOST/FILE.gguf")
    if problem := unsafe_path(file):
        raise _invalid(f"the file name {shown(file)} is refused: {problem}")
    return WebName(parts._replace(fragment="").geturl(), file)


def _invalid(problem: str) -> InvalidOptionError:
    return InvalidOptionError("name", problem)


def unsafe_path(path: str) -> str:
    """Why a path that a stranger chose is not used on this disk; "" where it can be.

    What any of the systems that share such a cache would take for something else is refused on
    all of them.
    """
    if len(path) > _MOST_PATH:
        return f"it is longer than {_MOST_PATH} characters"
    if not path.isprintable():
        return "it has characters that cannot be printed"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "it is absolute or leaves its folder"
        if _FORBIDDEN & set(part) or part != part.strip(" ") or part.endswith("."):
            return "it has characters that file names cannot have on every system"
        if _RESERVED.fullmatch(part):
            return "Windows reserves it for a device"
        if len(part.encode()) > _MOST_PART:
            return f"a part of it is longer than {_MOST_PART} bytes"
    return ""
