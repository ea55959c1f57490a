"""Names and addresses of models that must be fetched first: Hugging Face, Ollama, the web."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from nbllm.core.catalogue.hugging_face import hub_files
from nbllm.core.catalogue.ollama import ollama_blob
from nbllm.core.naming.file_answers import FOREIGN, conversion, foreign_kind
from nbllm.core.naming.name_answers import Answer, Known, Way
from nbllm.core.texts import quoted

__all__ = [
    "gguf_search",
    "hub_address",
    "hub_repository",
    "is_hub_address",
    "ollama_address",
    "ollama_ways",
    "web_file",
]

_HUB = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/|hf://(?:models/)?)"
    r"(?P<repo>[\w-][\w.-]*/[\w.-]+)"
    r"(?::(?P<tag>[\w.-]+))?"
    r"(?:/(?:blob|resolve|raw|tree)/(?P<revision>[^/?#]+))?"
    r"(?:/(?P<file>[^?#]+))?"
    r"(?:[?#].*)?",
    re.IGNORECASE,
)
_OLLAMA = re.compile(
    r"(?:https?://)?(?:www\.)?(?:registry\.)?ollama\.(?:com|ai)/(?:library/)?"
    r"(?P<model>[\w.-]+(?:/[\w.-]+)?(?::[\w.-]+)?)(?:/[^/]*)?(?:[?#].*)?",
    re.IGNORECASE,
)
_REPOSITORY = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]*[A-Za-z0-9])(?::(?P<tag>[\w.-]+))?", re.ASCII
)
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)


def is_hub_address(name: str) -> bool:
    """Whether a name is the address of a model that must be fetched, not of a server."""
    if _HUB.fullmatch(name) or _OLLAMA.fullmatch(name):
        return True
    return _is_web(name) and _weights_file(name) != ""


def hub_address(name: str, known: Known) -> Answer | None:
    """The address of a file or a repository on Hugging Face."""
    found = _HUB.fullmatch(name)
    if found is None:
        return None
    repo, file, revision = found["repo"], unquote(found["file"] or "").strip("/"), found["revision"]
    if not file.casefold().endswith(".gguf"):
        return _repository(repo, found["tag"])
    at = "" if revision in (None, "main") else f"@{revision}"
    # A model in several files is loaded by its first.
    file = _PART.sub(r"-00001-of-\1.gguf", file)
    line = f"%llm_pull {quoted(f'hf.co/{repo}{at}/{file}')}"
    load = f"%llm_load {quoted(file.rpartition('/')[2][:-5])}"
    there = [path for path in hub_files(repo) if path.as_posix().endswith(f"/{file}")]
    return Answer(
        "This is the address of a file on Hugging Face, which has to be downloaded first.",
        (*_cached(there), Way("Download it", (line, load))),
    )


def hub_repository(name: str, known: Known) -> Answer | None:
    """``org/repo``, ``org/repo:Q4_K_M``."""
    found = _REPOSITORY.fullmatch(name)
    return _repository(found["repo"], found["tag"]) if found else None


def _repository(repo: str, tag: str | None) -> Answer:
    is_gguf = tag is not None or "gguf" in repo.casefold()
    what = "This looks like a repository on Hugging Face, which has to be downloaded first."
    if not is_gguf:
        return Answer(
            f"{what} Unless its name says GGUF it usually holds Transformers weights, "
            "which llama.cpp does not read.",
            (*_cached(hub_files(repo)), *_unquantized_ways(repo)),
        )
    named = repo + (f":{tag}" if tag else "")
    lead = "Download it" if tag else "Download the best variant that fits this machine"
    lines = (f"%llm_pull {named}", f"%llm_load {named}")
    return Answer(what, (*_cached(hub_files(repo)), Way(lead, lines)))


def _unquantized_ways(repo: str) -> tuple[Way, ...]:
    listed = f"https://huggingface.co/models?other=base_model:quantized:{repo}"
    download = ("%llm_pull ORG/REPO-GGUF", "%llm_load ORG/REPO-GGUF")
    serve = (f"vllm serve {repo}", f"%llm_load vllm/{repo}")
    return (
        Way(f"As a GGUF ({listed})", download),
        Way("Unconverted, with vLLM (start it in a terminal)", serve),
    )


def _cached(files: list[Path]) -> tuple[Way, ...]:
    if not files:
        return ()
    return (Way("Already downloaded", tuple(f"%llm_load {quoted(str(f))}" for f in files[:5])),)


def ollama_address(name: str, known: Known) -> Answer | None:
    """A page of Ollama's library."""
    found = _OLLAMA.fullmatch(name)
    if found is None:
        return None
    return Answer("This is a model in the Ollama library.", ollama_ways(found["model"]))


def ollama_ways(model: str) -> tuple[Way, ...]:
    """How to get a model by the name that Ollama has for it."""
    name = model.lower()
    blob = ollama_blob(name)
    load = f"%llm_load ollama/{name}"
    if blob is None:
        return (Way("With Ollama (https://ollama.com)", (f"!ollama pull {name}", load)),)
    direct = f"%llm_load {quoted(str(blob))} --as {name.partition(':')[0].rpartition('/')[2]}"
    return (
        Way("Ollama has already downloaded it. Load the file without Ollama", (direct,)),
        Way("Or through the Ollama server", (load,)),
    )


def gguf_search(words: str) -> Way:
    """Where to look for a file of a model that is known by its name only."""
    query = quote(re.sub(r"[^\w.]+|_", " ", words).strip())
    return Way(
        f"As a file (https://huggingface.co/models?library=gguf&search={query})",
        ("%llm_pull ORG/REPO", "%llm_load ORG/REPO"),
    )


def web_file(name: str, known: Known) -> Answer | None:
    """The address of a file of weights anywhere else."""
    file = _weights_file(name) if _is_web(name) else ""
    if not file:
        return None
    kind = foreign_kind(file)
    if kind is not None:
        return Answer(f"This is the address of {kind}.", (conversion(""),))
    pull, load = f'%llm_pull "{_bare_address(name)}"', f"%llm_load {quoted(file[:-5])}"
    if not name.casefold().startswith("https:"):  # which nbllm downloads nothing over
        pull = f'!curl -L -o {quoted(file)} "{_bare_address(name)}"'
        load = f"%llm_load {quoted(file)}"
    return Answer("This is the address of a file.", (Way("Download it first", (pull, load)),))


def _is_web(name: str) -> bool:
    return re.match(r"(?:https?|ftp)://", name, re.IGNORECASE) is not None


def _weights_file(name: str) -> str:
    """The name of the file that an address ends in, if it is one of weights."""
    file = unquote(_path_of(name).rpartition("/")[2])
    return file if re.search(rf"\.(?:gguf|{FOREIGN})\Z", file, re.IGNORECASE) else ""


def _path_of(address: str) -> str:
    try:
        return urlsplit(address).path
    except ValueError:
        return ""


def _bare_address(address: str) -> str:
    """The address without what could end the quotation in a shell."""
    return quote(address.partition("#")[0], safe=":/?&=%+@,~-._")
