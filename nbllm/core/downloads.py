"""Models that are downloaded: what there is of one, which variant is taken and why, how far it is.

``nbllm.hub`` does the work; this is the seam between it and the manager, and imports none of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from nbllm.core.hardware.resources import Resources

__all__ = [
    "Deletion",
    "PullPhase",
    "PullPlan",
    "PullProgress",
    "PullReport",
    "RemoteFile",
    "Variant",
    "downloader",
]

PullPhase: TypeAlias = Literal["waiting", "downloading", "checking", "done"]
"""Another process downloads the file; bytes arrive; the last of them are checked; all is here."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository, or at an address.

    ``path`` is where it lies in the repository, checked to be harmless. ``digest`` is its SHA-256
    in hexadecimal, ``git_digest`` the SHA-1 that git keeps small files under; both are None where
    nobody tells them. ``version`` changes with the content ("" where that is not told).
    """

    path: str
    size_bytes: int
    digest: str | None = None
    git_digest: str | None = None
    version: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One quantization of a model: its files, in the order of a split model's parts.

    ``memory_bytes`` is about what it takes when it is loaded with a context of usual length, and
    ``tokens_per_second`` about how fast it decodes on the CPU (None: on a GPU, or unknown).
    ``fits`` says whether it can be loaded on this machine now; ``device`` where.
    """

    label: str
    files: tuple[RemoteFile, ...]
    memory_bytes: int
    fits: bool
    device: str | None = None
    tokens_per_second: float | None = None

    @property
    def size_bytes(self) -> int:
        """The size of all its files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullPlan:
    """What a pull will download, and why.

    ``name`` says where from, as a person writes it. ``variants`` are all there are, the smallest
    first, and ``chosen`` is the one that is taken; ``reason`` is a sentence on why.
    ``companions`` are files that come with it (``mmproj``, draft models), ``offered`` those that
    are there and come on request only. ``notes`` are sentences on what was left out of it.
    ``repository`` and ``address`` say which of the two it is; the other is None.
    """

    name: str
    variants: tuple[Variant, ...]
    chosen: Variant
    reason: str
    companions: tuple[RemoteFile, ...] = ()
    offered: tuple[RemoteFile, ...] = ()
    notes: tuple[str, ...] = ()
    repository: str | None = None
    revision: str = "main"
    commit: str = ""
    address: str | None = None

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All that are downloaded, the model's first."""
        return (*self.chosen.files, *self.companions)

    @property
    def size_bytes(self) -> int:
        """The size of all that are downloaded."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far a pull is: ``received_bytes`` of ``total_bytes`` of all its files.

    ``file`` is the name of the file in work, number ``number`` of ``count``. Bytes that an earlier
    attempt or another process had brought count as received. ``bytes_per_second`` is the speed of
    the last seconds. ``notice`` says why nothing arrives at the moment ("" where something does).
    """

    phase: PullPhase
    file: str
    number: int
    count: int
    received_bytes: int
    total_bytes: int
    bytes_per_second: float = 0.0
    notice: str = ""

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return self.received_bytes / self.total_bytes if self.total_bytes else 1.0

    @property
    def seconds_left(self) -> float | None:
        """At the speed of the last seconds; None where nothing arrives."""
        left = self.total_bytes - self.received_bytes
        return left / self.bytes_per_second if self.bytes_per_second > 0 else None


PullReport: TypeAlias = Callable[[PullProgress], None]
"""Takes the progress, a few times a second, in another thread; must be quick and not raise."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What deleting a downloaded model removes: ``files``, and the ``freed_bytes`` of the disk.

    ``path`` is the model's first file, whether it has arrived or not. ``kept`` are companions that
    came with it and stay.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    freed_bytes: int
    kept: tuple[Path, ...] = ()


class Downloader(Protocol):
    """The functions of ``nbllm.hub.pulling``; see there."""

    def plan_pull(
        self, name: str, resources: Resources, *, quant: str | None, companions: bool
    ) -> Awaitable[PullPlan]:
        """What would be downloaded."""

    def carry_out(self, plan: PullPlan, report: PullReport) -> Awaitable[Path]:
        """Download it; the path of the model's first file."""

    def plan_deletion(self, name: str, path: Path | None, *, companions: bool) -> Deletion:
        """What deleting would remove."""

    def pulled_files(self) -> list[Path]:
        """The first file of each model that a pull brought, or began to bring."""
        ...

    def pulled_file(self, name: str) -> Path | None:
        """The one of them that a name means."""
        ...

    def delete(self, deletion: Deletion) -> None:
        """Remove it."""


def downloader() -> Downloader:
    """What downloads, imported when it is first needed."""
    module: Downloader = import_module("nbllm.hub.pulling")
    return module
