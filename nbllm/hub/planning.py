"""What there is, and what of it a pull would download.

What a repository has is asked by the hub's HTTP API, ``/api/models/…``. The hub's own library reads
such answers whole and without bounds, in ways that differ from one version to the next; what
decides where a pull goes (token, endpoint, cache) comes from it all the same, see
``servers.hub_settings``.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx

from nbllm.core.downloads import PullPlan, RemoteFile
from nbllm.core.errors import DownloadError, InvalidOptionError
from nbllm.core.fitting.machine_room import fit_by_size, room_of
from nbllm.core.hardware.resources import Resources
from nbllm.core.paths import is_gguf
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.texts import shown
from nbllm.hub.download_errors import network_error
from nbllm.hub.names import HubName, WebName, parse_name, unsafe_path
from nbllm.hub.servers import Servers, address_of, hub_settings, version_of
from nbllm.hub.variants import Found, choose, chosen_companions, find_variants

__all__ = ["Repository", "file_address", "list_repository", "plan"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_ENTRIES, _MOST_GGUFS = 100_000, 20_000
_MOST_BYTES = 2**44


async def plan(
    name: str, resources: Resources, *, quant: str | None, wants_companions: bool
) -> PullPlan:
    """What a pull of ``name`` downloads. Raises ``InvalidOptionError`` and ``DownloadError``."""
    parsed = parse_name(name)
    bandwidth = await asyncio.to_thread(ResourceDetector().memory_bandwidth)
    if isinstance(parsed, WebName):
        return await _plan_file(parsed, resources, bandwidth)
    if quant is not None:
        parsed = _with_quant(parsed, quant)
    return await _plan_repository(parsed, resources, bandwidth, wants_companions=wants_companions)


def _with_quant(name: HubName, quant: str) -> HubName:
    """Raises ``InvalidOptionError`` where the name says another one already."""
    said = name.quant or name.file
    if not quant.strip():
        raise InvalidOptionError("quant", "it is empty; write a type such as q4_k_m")
    if said is not None and quant.strip().casefold() not in said.casefold():
        raise InvalidOptionError(
            "quant",
            f"the name asks for {shown(said)} already, not {shown(quant)}; give one of them",
        )
    return replace(name, quant=quant)


async def _plan_repository(
    name: HubName, resources: Resources, bandwidth: float | None, *, wants_companions: bool
) -> PullPlan:
    where = str(replace(name, quant=None))
    settings = hub_settings(where)
    servers = Servers(where, name=name, token=settings.token)
    try:
        listed = await list_repository(servers, settings.endpoint, name)
    finally:
        await servers.aclose()
    found = find_variants(listed.files, name.file)
    room = room_of(resources, None)
    fits = [fit_by_size(each.size_bytes, room, bandwidth) for each in found.variants]
    chosen = choose(where, found, fits, name.quant, name.file)
    companions = chosen_companions(found) if wants_companions else ()
    return PullPlan(
        name=where,
        variants=chosen.variants,
        chosen=chosen.variant,
        reason=chosen.reason,
        companions=companions,
        offered=tuple(each for each in found.companions if each not in companions),
        notes=(*listed.notes, *_incomplete(found)),
        repository=name.repository,
        revision=name.revision,
        commit=listed.commit,
    )


def _incomplete(found: Found) -> tuple[str, ...]:
    if not found.incomplete:
        return ()
    more = f" and {len(found.incomplete) - 1} more" if len(found.incomplete) > 1 else ""
    return (f"Left out, since parts of it are missing: {found.incomplete[0]}{more}.",)


async def _plan_file(name: WebName, resources: Resources, bandwidth: float | None) -> PullPlan:
    """A file at an address, of which the first byte says how many there are."""
    where = str(name)
    servers, url = Servers(where), httpx.URL(name.address)
    try:
        async with servers.open(url, "0-0") as response:
            if response.status_code not in (200, 206):
                raise servers.refused(response, url)
            file = RemoteFile(name.file, _length(where, response), version=version_of(response))
    except httpx.HTTPError as error:
        raise network_error(where, url.host, error) from None
    finally:
        await servers.aclose()
    found = find_variants([file], file.path)
    fit = fit_by_size(file.size_bytes, room_of(resources, None), bandwidth)
    chosen = choose(where, found, [fit] * len(found.variants), None, file.path)
    return PullPlan(
        name=where,
        variants=chosen.variants,
        chosen=chosen.variant,
        reason=chosen.reason,
        notes=("The server tells no checksum, so the file cannot be checked.",),
        address=name.address,
    )


def _length(where: str, response: httpx.Response) -> int:
    told = response.headers.get("content-length", "")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        told = response.headers.get("content-range", "").rpartition("/")[2]
    if not told.isascii() or not told.isdecimal() or not 0 < len(told) <= 14 or not int(told):
        raise DownloadError(
            where, f"{response.url.host} does not tell the size of the file ({shown(told)})"
        )
    return int(told)


# ---------------------------------------------------------------- what a repository has


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


async def _entries(servers: Servers, url: httpx.URL) -> list[dict[str, Any]]:
    """The GGUFs of all pages of a listing."""
    found: list[dict[str, Any]] = []
    first, seen, count = address_of(url), {url}, 0
    while True:
        page, response = await servers.json(url)
        if not isinstance(page, list):
            raise DownloadError(servers.where, _no_hub(first))
        found += filter(_is_gguf_file, page)
        count += len(page)
        following = _next_page(response)
        if following is None or not page:
            return found
        if address_of(following) != first:
            raise DownloadError(servers.where, "its listing goes on at another server")
        if following in seen:
            raise DownloadError(servers.where, f"its listing has no end. {_no_hub(first)}")
        if count > _MOST_ENTRIES or len(found) > _MOST_GGUFS:
            problem = (
                f"it has more than {min(count, _MOST_ENTRIES):,} files, too many to choose from"
            )
            raise DownloadError(servers.where, problem)
        seen.add(following)
        url = following


def _next_page(response: httpx.Response) -> httpx.URL | None:
    try:
        told = response.links.get("next", {}).get("url")
        return response.url.join(told) if told else None
    except (httpx.InvalidURL, ValueError):
        return None


def _is_gguf_file(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.get("type", "file") != "file":
        return False
    path = entry.get("path")
    return isinstance(path, str) and is_gguf(path)


def _no_hub(where: str) -> str:
    return f"{where} did not answer as a hub does. Is HF_ENDPOINT correct?"


def _repository(commit: str, entries: list[dict[str, Any]]) -> Repository:
    files: list[RemoteFile] = []
    refused: list[tuple[str, str]] = []
    for entry in entries:
        path = entry["path"]
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
