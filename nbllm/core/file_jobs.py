"""What a manager does with the files of local models, beside loading them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

from nbllm.core import openers
from nbllm.core.awaiting import tells_unless_awaited
from nbllm.core.downloads import Deletion, PullPlan, PullReport, downloader
from nbllm.core.errors import (
    DownloadError,
    InvalidOptionError,
    ModelFileError,
    ModelNotFoundError,
)
from nbllm.core.file_arguments import path_of, target_of, type_labels
from nbllm.core.hardware.resources import Resources
from nbllm.core.measurements import forget_tuned
from nbllm.core.option_checks import check_number, text_of
from nbllm.core.paths import absolute_path
from nbllm.core.quantization import (
    QUANTIZATION_TYPES,
    Quantization,
    Quantized,
    Tuning,
    place_for,
    quantization_type,
)
from nbllm.core.texts import quoted
from nbllm.core.types import ModelInfo

__all__ = ["FileJobs"]

_DELETED_BY = {
    "bundled": "It belongs to an installed package, which pip uninstall removes",
    "gpt4all": "Delete it in GPT4All",
    "huggingface": "Delete it with Hugging Face's own tool, hf cache",
    "jan": "Delete it in Jan",
    "lmstudio": "Delete it in LM Studio",
    "ollama": "Delete it with: ollama rm {name}",
}


@tells_unless_awaited("manager")
class FileJobs(ABC):
    """The part of a manager that works on model files: quantizes, tunes, downloads, deletes."""

    @abstractmethod
    def find_model(self, name: str) -> ModelInfo:
        """The entry that ``name`` means."""

    @abstractmethod
    def list_loaded_models(self) -> list[ModelInfo]:
        """What is loaded and usable."""

    @abstractmethod
    def detect_resources(self) -> Resources:
        """What the machine has at this moment."""

    def find_local_model(self, name: str) -> ModelInfo:
        """The entry that ``name`` means, of a model whose file is on this machine.

        Raises ``InvalidOptionError`` for one that runs elsewhere, ``ModelNotFoundError`` and
        ``ModelFileError``.
        """
        info = self.find_model(text_of("name", name))
        if info.local and info.path is not None:
            return info
        raise InvalidOptionError(
            "model",
            f"{info.name} runs on a server, and its file is not here. Name a local model; "
            "%llm_models lists them",
        )

    async def plan_quantizations(
        self,
        name: str,
        types: Iterable[str] = QUANTIZATION_TYPES,
        *,
        imatrix: str | os.PathLike[str] | None = None,
    ) -> list[Quantization]:
        """What each of the ``types`` would make of a local model's file; nothing is written.

        Types that need an importance matrix are left out without one. Takes about a second.
        Raises as ``quantize_model`` does.
        """
        labels = type_labels(types)
        return await openers.plan_quantizations(
            self.find_local_model(name), labels, imatrix=path_of("imatrix", imatrix)
        )

    async def quantize_model(
        self,
        name: str,
        type: str,  # noqa: A002 - the field's word for it
        *,
        to: str | os.PathLike[str] | None = None,
        imatrix: str | os.PathLike[str] | None = None,
        replace: bool = False,
        on_plan: Callable[[Quantization], None] = lambda plan: None,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Quantized:
        """Write the file of a local model anew, quantized to ``type``, such as "q4_k_m".

        Without ``to``, a file or a folder, it goes beside the source, or into the current folder
        where the source belongs to an installed package. llama.cpp quantizes in a process of its
        own; the file appears when it is whole, so a cancelled run leaves nothing. ``imatrix`` is a
        file with llama.cpp's importance matrix; ``on_plan`` gets the size first, ``progress`` the
        finished fraction, 0 to 1.

        Raises ``InvalidOptionError`` for an unknown type, a type that needs an importance matrix
        and a file that exists unless ``replace`` is set; ``QuantizationError`` where the disk has
        no room or llama.cpp fails; ``ModelNotFoundError``, ``ModelFileError`` and
        ``MissingDependencyError``.
        """
        label, info = quantization_type(type), self.find_local_model(name)
        if info.quantization is not None and info.quantization.upper() == label:
            raise InvalidOptionError(
                "type",
                f"{info.name} is {label} already. Choose another type; "
                f"%llm_fit {quoted(info.name)} --quants compares them",
            )
        return await openers.quantize_model(
            info,
            label,
            place_for(info, label, target_of(to)),
            self.detect_resources(),
            imatrix=path_of("imatrix", imatrix),
            replaces=replace,
            on_plan=on_plan,
            progress=progress,
        )

    async def make_imatrix(
        self,
        name: str,
        text: str | os.PathLike[str],
        *,
        to: str | os.PathLike[str] | None = None,
        chunks: int = 100,
        replace: bool = False,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Path:
        """Write a local model's importance matrix over a text, for ``quantize_model``.

        It says how much each column of the weights matters: the mean square of what it is
        multiplied by while the model reads at most ``chunks`` of 512 tokens of the file ``text``.
        Without ``to`` the file, a GGUF as llama-imatrix writes it, goes into the current folder.
        Returns its path. Raises ``InvalidOptionError`` for files that are missing or exist,
        ``QuantizationError`` where the text is too short or llama.cpp fails, and what a load of
        the model raises.
        """
        check_number("chunks", chunks, 1, 1_000_000)
        info = self.find_local_model(name)
        target = target_of(to) or Path.cwd() / f"{info.name}.imatrix.gguf"
        if target.is_dir():
            target = target / f"{info.name}.imatrix.gguf"
        await openers.make_imatrix(
            info,
            path_of("text", text) or Path(),
            target.absolute(),
            self.detect_resources(),
            chunks=int(chunks),
            replaces=replace,
            progress=progress,
        )
        return target.absolute()

    async def tune_model(
        self,
        name: str,
        *,
        max_changed: float = 0.05,
        types: Iterable[str] = (),
        imatrix: str | os.PathLike[str] | None = None,
        thorough: bool = False,
        report: Callable[[str, float], None] = lambda what, fraction: None,
    ) -> Tuning:
        """Measure quantizations of a local model here, and have later loads use the fastest.

        The fastest is the one with the shortest time for 512 tokens of prompt and 256 of answer
        among those that change at most the share ``max_changed`` of the likeliest next tokens,
        compared with the model as it is over a text of conversations. The ``types`` that make
        sense are tried where none are named. Its file is kept in the user's cache folder, with the
        numbers of threads and the settings of a context that ``measure_model`` compares. Takes
        minutes; ``report`` gets what is being done and the finished fraction of all. Cancelling
        it keeps nothing, and nothing is kept of a measurement that other programs disturbed.

        Raises ``InvalidOptionError``, ``QuantizationError`` and what a load raises.
        """
        check_number("max_changed", max_changed, 0, 1)
        labels = type_labels(types)
        if (given := path_of("imatrix", imatrix)) is not None and not given.is_file():
            raise InvalidOptionError("imatrix", f"there is no file {imatrix}")
        return await openers.tune_model(
            self.find_local_model(name),
            self.detect_resources(),
            max_changed=max_changed,
            types=labels or None,
            imatrix=path_of("imatrix", imatrix),
            thorough=thorough,
            report=report,
        )

    def untune_model(self, name: str) -> bool:
        """Have later loads use the model's own file again; whether they did not before.

        The file that was kept is removed. Raises ``ModelNotFoundError`` and ``OSError``.
        """
        path = self.find_local_model(name).path
        return path is not None and forget_tuned(path, self.detect_resources().cpu)

    # ------------------------------------------------------------ downloads

    async def plan_pull(
        self, name: str, *, quant: str | None = None, companions: bool = False
    ) -> PullPlan:
        """What ``pull_model`` would download, and why; nothing is downloaded.

        Its ``variants`` are all there are, with what each would take on this machine. Raises as
        ``pull_model`` does.
        """
        self._check_elsewhere(text_of("name", name))
        if quant is not None:
            text_of("quant", quant)
        return await downloader().plan_pull(
            name, self.detect_resources(), quant=quant, companions=companions
        )

    def _check_elsewhere(self, name: str) -> None:
        """Raise ``InvalidOptionError`` for what can be loaded as it is: a file, a served model."""
        if "/" in name and not _is_here(name):
            return
        try:
            info = self.find_model(name)
        except (ModelNotFoundError, ModelFileError):
            return
        where = f"is on this machine already ({info.path}); load it"
        if info.path is None:
            where = "runs on a server, so there is no file to download; use it"
        load = f"%llm_load {quoted(info.name)}"
        raise InvalidOptionError("name", f"{info.name} {where} with {load}")

    async def pull_model(
        self,
        name: str | PullPlan,
        *,
        quant: str | None = None,
        companions: bool = False,
        on_plan: Callable[[PullPlan], None] = lambda plan: None,
        progress: PullReport = lambda progress: None,
    ) -> ModelInfo:
        """Download a model, and return its entry; ``load_model`` takes its name.

        ``name`` is a repository of Hugging Face's hub ("owner/repository", "hf.co/…", with
        ":Q4_K_M" behind it or not), the address of one or of a file in it, another https address
        of a GGUF, or a plan of ``plan_pull``. The best variant that fits this machine is taken
        unless ``quant`` or the name says which one. ``companions`` brings a projector for images
        and a draft model too, where there are any. ``on_plan`` gets what will be downloaded,
        ``progress`` how far it is, a few times a second in another thread.

        Files of the hub go into the hub's own cache, others into a folder of nbllm's. They are
        checked, and appear there when they are whole. A pull that is cancelled or killed keeps
        what has arrived, and the next one goes on from it; several processes that pull one file
        download it once.

        Raises ``InvalidOptionError`` for a name that means none, ``DownloadError`` and
        ``MissingDependencyError``.
        """
        plan = name
        if not isinstance(plan, PullPlan):
            plan = await self.plan_pull(str(name), quant=quant, companions=companions)
        on_plan(plan)
        path = await downloader().carry_out(plan, progress)
        return self.find_model(str(path))

    def plan_deletion(self, name: str, *, companions: bool = False) -> Deletion:
        """What ``delete_model`` would remove and free. Raises as it does."""
        path = downloader().pulled_file(text_of("name", name)) or self._pulled_path(
            self.find_model(name), name
        )
        for loaded in self.list_loaded_models():
            if path is not None and loaded.path == path:
                raise DownloadError(
                    name,
                    f"it is loaded and cannot be deleted; %llm_unload {quoted(loaded.name)} first",
                )
        return downloader().plan_deletion(name, path, companions=companions)

    def _pulled_path(self, info: ModelInfo, name: str) -> Path:
        """Raises ``DownloadError`` for a model that no pull brought, with who deletes it."""
        if info.path is None:
            raise DownloadError(name, "it runs on a server; there is no file of it to delete")
        if info.path in downloader().pulled_files():
            return info.path
        remedy = _DELETED_BY.get(info.source, "Delete the file yourself").format(name=info.name)
        problem = "it was not downloaded by %llm_pull, so it is not deleted"
        raise DownloadError(name, f"{problem} ({info.path}). {remedy}")

    def list_pulled_models(self) -> list[str]:
        """The names of the models that were downloaded, wholly or in part, for ``delete_model``."""
        return [path.stem for path in downloader().pulled_files()]

    def delete_model(self, name: str | Deletion, *, companions: bool = False) -> Deletion:
        """Delete a model that was downloaded; with ``companions`` also those that came with it.

        ``name`` is the model's, or what was pulled ("owner/repository"). What has arrived of a
        pull that was stopped is deleted too. Files that another model needs stay. Raises
        ``DownloadError`` for one that no pull brought or that is loaded, and
        ``ModelNotFoundError``.
        """
        deletion = (
            name if isinstance(name, Deletion) else self.plan_deletion(name, companions=companions)
        )
        downloader().delete(deletion)
        return deletion


def _is_here(name: str) -> bool:
    try:
        return os.path.lexists(absolute_path(name))
    except ValueError:
        return False
