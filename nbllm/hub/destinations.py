"""Where downloads lie: the hub's cache in the hub's own layout, and a folder of nbllm's own.

The layout is that of ``huggingface_hub``: ``models--OWNER--REPOSITORY`` with ``blobs``, named by
their checksums, ``snapshots/COMMIT`` with relative links to them, ``refs`` with the commit of each
branch, and locks under ``.locks``. Where links cannot be made, as on Windows, the file itself
lies in the snapshot.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from nbllm.core import saved_files
from nbllm.core.catalogue.hugging_face import hub_cache
from nbllm.core.catalogue.programs import downloads_folder
from nbllm.core.downloads import PullPlan, RemoteFile
from nbllm.hub.names import HubName
from nbllm.hub.parts import PartPlace
from nbllm.hub.planning import file_address
from nbllm.hub.servers import Servers, hub_settings

__all__ = ["HubPlace", "Place", "Source", "WebPlace", "free_bytes", "source_of"]


class Place(Protocol):
    """Where the files of one pull go."""

    @property
    def folder(self) -> Path:
        """What lies on the disk that fills."""
        ...

    def path(self, file: RemoteFile) -> Path:
        """Where the file is found when it is whole."""
        ...

    def lock(self, file: RemoteFile) -> Path:
        """The lock that whoever downloads it holds."""
        ...

    def parts(self, file: RemoteFile) -> PartPlace:
        """Where it is put together."""
        ...

    def is_here(self, file: RemoteFile) -> bool:
        """Whether it is whole; a copy that another repository's revision has is linked."""
        ...

    def publish(self, file: RemoteFile) -> None:
        """Give the file that was put together its name, in one step."""
        ...


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A revision of a repository in the hub's cache."""

    repository: str
    revision: str
    commit: str
    links: bool

    @property
    def folder(self) -> Path:  # noqa: D102 - see Place
        return hub_cache() / f"models--{self.repository.replace('/', '--')}"

    def path(self, file: RemoteFile) -> Path:  # noqa: D102
        return self.folder / "snapshots" / self.commit / Path(*file.path.split("/"))

    def lock(self, file: RemoteFile) -> Path:  # noqa: D102
        return hub_cache() / ".locks" / self.folder.name / f"{_key(file)}.lock"

    def parts(self, file: RemoteFile) -> PartPlace:  # noqa: D102
        blob = self._blob(file)
        return PartPlace(
            blob.with_name(f"{blob.name}.nbllm.incomplete"),
            blob.with_name(f"{blob.name}.nbllm.counts"),
        )

    def _blob(self, file: RemoteFile) -> Path:
        return self.folder / "blobs" / _key(file)

    def is_here(self, file: RemoteFile) -> bool:  # noqa: D102
        path, blob = self.path(file), self._blob(file)
        if _has_size(path, file.size_bytes):
            return True
        if not _has_size(blob, file.size_bytes):
            return False
        self._link(blob, path, is_new=False)
        self._note_revision()
        return True

    def publish(self, file: RemoteFile) -> None:  # noqa: D102
        blob, path, parts = self._blob(file), self.path(file), self.parts(file)
        parts.data.replace(blob)
        parts.remove()
        self._link(blob, path, is_new=True)
        self._note_revision()

    def _link(self, blob: Path, path: Path, *, is_new: bool) -> None:
        """Have the file at ``path``: by a relative link, else by moving or copying it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()
        if self.links:
            with suppress(OSError, NotImplementedError):
                path.symlink_to(os.path.relpath(blob, path.parent))
                return
        if is_new:
            blob.replace(path)
        else:
            shutil.copyfile(blob, path)

    def _note_revision(self) -> None:
        if self.revision != self.commit:
            ref = self.folder / "refs" / Path(*self.revision.split("/"))
            ref.parent.mkdir(parents=True, exist_ok=True)
            saved_files.write(ref, self.commit)


@dataclass(frozen=True, slots=True)
class WebPlace:
    """nbllm's own folder, for a file at an address."""

    address: str

    @property
    def folder(self) -> Path:  # noqa: D102 - see Place
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        return downloads_folder() / digest

    def path(self, file: RemoteFile) -> Path:  # noqa: D102
        return self.folder / file.path

    def lock(self, file: RemoteFile) -> Path:  # noqa: D102
        return self.folder / ".lock"

    def parts(self, file: RemoteFile) -> PartPlace:  # noqa: D102
        return PartPlace(self.folder / ".incomplete", self.folder / ".counts")

    def is_here(self, file: RemoteFile) -> bool:  # noqa: D102
        return _has_size(self.path(file), file.size_bytes)

    def publish(self, file: RemoteFile) -> None:  # noqa: D102
        parts = self.parts(file)
        parts.data.replace(self.path(file))
        parts.remove()


def _key(file: RemoteFile) -> str:
    """What the hub calls the content, as a file's name."""
    key = file.digest or file.git_digest
    if key is None:
        raise ValueError("a file of the hub has a checksum")
    return key


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def free_bytes(folder: Path) -> int | None:
    """What is free on the disk on which ``folder`` is or will be; None: unknown."""
    for each in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(each).free
    return None


# ---------------------------------------------------------------- the files of a plan


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
