"""The dashboard's second page: the model files of this machine, downloads, quantization, tuning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from nbllm.core.catalogue.listing import Listing
from nbllm.core.errors import NbllmError
from nbllm.core.model_manager import ModelManager
from nbllm.core.words import size_words
from nbllm.notebook.dashboard.file_forms import PullForm, RemakeForm
from nbllm.notebook.dashboard.files_panel import FileActions, FilesPanel
from nbllm.notebook.dashboard.model_row import Report
from nbllm.notebook.dashboard.model_work import ModelWork
from nbllm.notebook.dashboard.sections import Section
from nbllm.notebook.dashboard.survey import Survey
from nbllm.notebook.dashboard.widgets import box, failure_words, mark
from nbllm.notebook.loop import LoopThread

__all__ = ["ModelsPage"]


class ModelsPage:
    """What is here by source, and the forms. It looks for files once it is opened.

    ``on_end`` gets a line for the log when files have come, changed or gone; "" when there is only
    something else to show.
    """

    def __init__(
        self,
        manager: ModelManager,
        loop: LoopThread,
        work: ModelWork,
        on_end: Callable[[str], None],
    ) -> None:
        self._manager, self._loop, self._on_end = manager, loop, on_end
        self._listing = Listing()
        self._pulled: frozenset[str] = frozenset()
        self._needs_scan = True
        self.is_open = False
        self.pull = PullForm(manager, loop, self._on_job_end)
        self.remake = RemakeForm(manager, loop, self._on_job_end)
        actions = FileActions(
            load=work.actions.load,
            remake=self.remake.choose,
            ask_deletion=self._ask_deletion,
            delete=self._delete,
        )
        self.files = FilesPanel(actions, partial(on_end, ""))
        forms = box([self.pull.widget, self.remake.widget], "nbllm-column")
        self.widget = box([box([self.files.widget], "nbllm-column"), forms], "nbllm-columns")
        self.widget.add_class("nbllm-hidden")

    @property
    def section(self) -> Section:
        """What a saved notebook keeps of it."""
        return self.files.section

    def open(self, *, is_open: bool) -> None:
        """Show it as it is now, or put it away."""
        self.is_open = is_open
        self.look_again()
        mark(self.widget, "nbllm-hidden", on=not is_open)

    def look_again(self) -> None:
        """Look for files the next time that it is shown."""
        self._needs_scan = True

    async def look(self, survey: Survey) -> None:
        """What takes longer, while it is open: look for files, and see what fits."""
        if not self.is_open:
            return
        if self._needs_scan:
            self._needs_scan = False
            self._listing = await asyncio.to_thread(self._manager.search_all_models)
            self._pulled = await asyncio.to_thread(self._pulled_names)
        shown = self.files.shown(self._listing.models)
        if unplanned := survey.unplanned(shown):
            await asyncio.to_thread(survey.plan, unplanned)

    def update(self, survey: Survey) -> None:
        """Show what is now, while it is open."""
        if not self.is_open:
            return
        models = self._listing.models
        by_file = {info.name for info in models if info.path and info.path.stem in self._pulled}
        self.files.update(models, survey.fits, frozenset(by_file), self._listing.notes)
        self.remake.offer(models)
        self.pull.bar.update()
        self.remake.bar.update()

    def _pulled_names(self) -> frozenset[str]:
        try:
            return frozenset(self._manager.list_pulled_models())
        except NbllmError:  # the extra that downloads is not installed, so it brought nothing
            return frozenset()

    def _on_job_end(self, line: str) -> None:
        self.look_again()
        self._on_end(line)

    def _ask_deletion(self, name: str, ask: Callable[[str], None], report: Report) -> None:
        async def plan() -> None:
            deletion = await asyncio.to_thread(self._manager.plan_deletion, name)
            files = len(deletion.files)
            count = f"{files} files" if files != 1 else "1 file"
            ask(f"Delete {deletion.name} ({count}, frees {size_words(deletion.freed_bytes)})?")

        self._loop.submit(_reported(plan(), report))

    def _delete(self, name: str, report: Report) -> None:
        async def delete() -> None:
            deletion = await asyncio.to_thread(self._manager.delete_model, name)
            self._on_job_end(f"Deleted {name}; {size_words(deletion.freed_bytes)} freed")

        self._loop.submit(_reported(delete(), report))


async def _reported(work: Coroutine[Any, Any, None], report: Report) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - nobody else hears of what a press raises
        report(failure_words(error))
