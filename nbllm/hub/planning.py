"""What a pull would download: the variants of a model, how they fit here, and the one to take."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx

from nbllm.core.downloads import PullPlan, RemoteFile
from nbllm.core.errors import DownloadError
from nbllm.core.fitting.machine_room import fit_by_size, room_of
from nbllm.core.hardware.resources import Resources
from nbllm.core.hub_names import HubName, WebName, parse_name
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.texts import shown
from nbllm.hub.listing import list_repository
from nbllm.hub.refusals import network_error
from nbllm.hub.servers import Servers
from nbllm.hub.settings import hub_settings
from nbllm.hub.variants import Found, choose, chosen_companions, find_variants

__all__ = ["plan"]


async def plan(
    name: str, resources: Resources, *, quant: str | None, wants_companions: bool
) -> PullPlan:
    """What a pull of ``name`` downloads. Raises ``InvalidOptionError`` and ``DownloadError``."""
    parsed = parse_name(name)
    bandwidth = await asyncio.to_thread(ResourceDetector().memory_bandwidth)
    if isinstance(parsed, WebName):
        return await _plan_file(parsed, resources, bandwidth)
    if quant is not None:
        parsed = replace(parsed, quant=quant)
    return await _plan_repository(parsed, resources, bandwidth, wants_companions=wants_companions)


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
            file = RemoteFile(name.file, _length(where, response), version=_version(response))
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


def _version(response: httpx.Response) -> str:
    """What ``If-Range`` takes: a strong ETag, else the date of the last change."""
    tag = response.headers.get("etag", "")
    is_strong = tag.startswith('"') and tag.isascii() and len(tag) < 200
    return str(tag if is_strong else response.headers.get("last-modified", "")[:100])
