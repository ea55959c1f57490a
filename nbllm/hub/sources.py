"""Where the files of a plan come from and where they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from nbllm.core.downloads import PullPlan, RemoteFile
from nbllm.core.hub_names import HubName
from nbllm.hub.listing import file_address
from nbllm.hub.places import HubPlace, Place, WebPlace
from nbllm.hub.servers import Servers
from nbllm.hub.settings import hub_settings

__all__ = ["Source", "source_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """The connections, the ``address`` of each file, and the place that it goes to."""

    servers: Servers
    address: Callable[[RemoteFile], httpx.URL]
    place: Place


def source_of(plan: PullPlan) -> Source:
    """Those of a plan. Raises ``DownloadError`` and ``MissingDependencyError``."""
    if plan.repository is None:
        address = httpx.URL(plan.address or "")
        return Source(Servers(plan.name), lambda file: address, WebPlace(str(address)))
    settings, name = hub_settings(plan.name), HubName(plan.repository, plan.revision)
    return Source(
        Servers(plan.name, name=name, token=settings.token),
        lambda file: file_address(settings.endpoint, name, plan.commit, file.path),
        HubPlace(plan.repository, plan.revision, plan.commit, links=settings.links),
    )
