"""What a repository of the hub has, by the hub's HTTP API: ``/api/models/…``.

The hub's own library reads such answers whole and without bounds, in ways that differ from one
version to the next; what decides where a pull goes (token, endpoint, cache) comes from it all the
same, see ``nbllm.hub.settings``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from nbllm.core.downloads import RemoteFile
from nbllm.core.errors import DownloadError
from nbllm.core.hub_names import HubName, unsafe_path
from nbllm.core.paths import is_gguf
from nbllm.core.texts import shown
from nbllm.hub.servers import Servers, address_of

__all__ = ["Repository", "file_address", "list_repository"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_PAGES, _MOST_ENTRIES = 50, 20_000
_MOST_BYTES = 2**44


@dataclass(frozen=True, slots=True)
class Repository:
    """The GGUFs of a repository at the ``commit`` that its revision stands for now.

    ``notes`` are sentences on files that are refused.
    """

    commit: str
    files: tuple[RemoteFile, ...]
    notes: tuple[str, ...]


def file_address(endpoint: str, name: HubName, commit: str, path: str) -> httpx.URL:
    """Where the hub has a file."""
    return httpx.URL(f"{endpoint}/{name.repository}/resolve/{commit}/{quote(path)}")


async def list_repository(servers: Servers, endpoint: str, name: HubName) -> Repository:
    """The models of a repository. Raises ``DownloadError``."""
    base = f"{endpoint}/api/models/{name.repository}"
    about, _ = await servers.json(httpx.URL(f"{base}/revision/{quote(name.revision, safe='')}"))
    commit = about.get("sha") if isinstance(about, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise DownloadError(servers.where, _no_hub(endpoint))
    entries = await _entries(servers, httpx.URL(f"{base}/tree/{commit}?recursive=true"))
    return _repository(commit, entries)


async def _entries(servers: Servers, url: httpx.URL) -> list[Any]:
    """All pages of a listing."""
    found: list[Any] = []
    first = address_of(url)
    for _ in range(_MOST_PAGES):
        page, response = await servers.json(url)
        if not isinstance(page, list):
            raise DownloadError(servers.where, _no_hub(first))
        found += page
        following = response.links.get("next", {}).get("url")
        if not following or not page:
            return found
        url = response.url.join(following)
        if address_of(url) != first:
            raise DownloadError(servers.where, "its listing goes on at another server")
        if len(found) > _MOST_ENTRIES:
            break
    raise DownloadError(
        servers.where,
        f"it has more than {_MOST_ENTRIES:,} files. Give the address of the file that you want",
    )


def _no_hub(where: str) -> str:
    return f"{where} did not answer as a hub does. Is HF_ENDPOINT correct?"


def _repository(commit: str, entries: list[Any]) -> Repository:
    files: list[RemoteFile] = []
    refused: list[tuple[str, str]] = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("type", "file") != "file":
            continue
        path = entry.get("path")
        if not isinstance(path, str) or not is_gguf(path):
            continue
        file = _file(path, entry)
        if isinstance(file, str):
            refused.append((path, file))
        else:
            files.append(file)
    return Repository(commit, tuple(_unique(files)), _notes(refused))


def _unique(files: list[RemoteFile]) -> list[RemoteFile]:
    """One file for each name, however a system compares names."""
    return list({file.path.casefold(): file for file in reversed(files)}.values())[::-1]


def _size(entry: dict[str, Any]) -> int | None:
    lfs = entry.get("lfs")
    size = lfs.get("size") if isinstance(lfs, dict) else entry.get("size")
    is_size = isinstance(size, int) and not isinstance(size, bool) and 0 < size <= _MOST_BYTES
    return size if is_size else None


def _file(path: str, entry: dict[str, Any]) -> RemoteFile | str:
    """The file, or why it is refused."""
    size, lfs = _size(entry), entry.get("lfs")
    if problem := unsafe_path(path):
        return problem
    if size is None:
        return "its size is invalid"
    if isinstance(lfs, dict):
        digest = lfs.get("oid") or lfs.get("sha256")
        if isinstance(digest, str) and _DIGEST.fullmatch(digest):
            return RemoteFile(path, size, digest=digest)
    elif isinstance(git := entry.get("oid"), str) and _COMMIT.fullmatch(git):
        return RemoteFile(path, size, git_digest=git)
    return "it has no checksum"


def _notes(refused: list[tuple[str, str]]) -> tuple[str, ...]:
    if not refused:
        return ()
    path, problem = refused[0]
    more = f" and {len(refused) - 1:,} more" if len(refused) > 1 else ""
    return (f"Refused: {shown(path)} ({problem}){more}.",)
