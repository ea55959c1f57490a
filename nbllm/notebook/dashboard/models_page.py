"""The dashboard's second page: the model files of this machine by source, and forms for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets

from nbllm.core.catalogue.listing import STORES, Listing
from nbllm.core.errors import NbllmError
from nbllm.core.model_manager import ModelManager
from nbllm.core.rendering.escaping import attribute_html, text_html
from nbllm.core.types import ModelInfo
from nbllm.core.words import size_words
from nbllm.notebook.dashboard.file_forms import PullForm, RemakeForm
from nbllm.notebook.dashboard.model_row import Report, kind_words
from nbllm.notebook.dashboard.model_work import ModelWork, Survey
from nbllm.notebook.dashboard.saved_view import Section
from nbllm.notebook.dashboard.widgets import (
    Choice,
    box,
    button,
    card,
    failure_words,
    field,
    mark,
    problem_html,
    set_children,
    text,
)
from nbllm.notebook.loop import LoopThread

__all__ = ["ModelsPage"]

SHOWN_FILES = 60
_ALL = ("all sources", "")
_TITLES = {
    "config": "Model configs",
    "bundled": "Python packages",
    "found": "Current folder",
    **{store.key: store.title for store in STORES},
}


def source_title(source: str) -> str:
    """What a source of entries is called."""
    return _TITLES.get(source, source)


@dataclass(frozen=True, slots=True)
class FileActions:
    """What the buttons do, each with a model's name; they return at once, from any thread.

    ``ask_deletion`` calls its second argument with the question what deleting would remove.
    """

    load: Callable[[str, Report], None]
    remake: Callable[[str], None]
    ask_deletion: Callable[[str, Callable[[str], None], Report], None]
    delete: Callable[[str, Report], None]


class FilesPanel:
    """A row for each file, those of one source together. ``on_filter`` is called where others are
    to be shown.
    """

    def __init__(self, actions: FileActions, on_filter: Callable[[], None]) -> None:
        self._actions = actions
        self._rows: dict[str, _FileRow] = {}
        self._headings: dict[str, Any] = {}
        self._counts: tuple[tuple[str, str], ...] = ()
        self.filter = field(
            ipywidgets.Text(description="Filter", placeholder="name, type or quantization"),
            "Show only models that match all of these words.",
        )
        self.source = field(Choice("Source", options=[_ALL]))
        for entry in (self.filter, self.source):
            entry.observe(lambda _: on_filter(), "value")
        self._note, self._list = text(), box([], "nbllm-models", "nbllm-files")
        fields = box([self.filter, self.source], "nbllm-fields", "nbllm-two")
        self.widget = card("Models on this machine", fields, self._list, self._note)

    @property
    def section(self) -> Section:
        """How many models each source has."""
        return Section("Models on this machine", self._counts)

    def shown(self, infos: Sequence[ModelInfo]) -> list[ModelInfo]:
        """Those that the filter lets through, by source, as many as are shown."""
        return self._wanted(infos)[:SHOWN_FILES]

    def update(
        self,
        infos: Sequence[ModelInfo],
        fits: Mapping[str, str],
        pulled: frozenset[str],
        notes: Sequence[str] = (),
    ) -> None:
        """Show these; ``fits`` says in words whether each fits, ``pulled`` names those that can be
        deleted.
        """
        self._offer_sources(infos)
        wanted, shown = self._wanted(infos), self.shown(infos)
        known = self._rows
        rows = {i.name: known.get(i.name) or _FileRow(i, self._actions) for i in shown}
        for info in shown:
            rows[info.name].update(info, fits.get(info.name, ""), is_pulled=info.name in pulled)
        set_children(self._list, self._grouped(shown, rows))
        self._rows = rows
        self._note.value = self._note_html(len(shown), len(wanted), notes)

    def _grouped(self, infos: Sequence[ModelInfo], rows: Mapping[str, _FileRow]) -> list[Any]:
        children: list[Any] = []
        sources = list(dict.fromkeys(info.source for info in infos))
        self._headings = {source: self._headings.get(source) or text() for source in sources}
        for source in sources:
            own = [info for info in infos if info.source == source]
            title = text_html(source_title(source))
            self._headings[source].value = f'<div class="nbllm-group">{title}</div>'
            children += [self._headings[source], *(rows[info.name].widget for info in own)]
        return children

    def _offer_sources(self, infos: Sequence[ModelInfo]) -> None:
        counts: dict[str, int] = {}
        for info in infos:
            counts[info.source] = counts.get(info.source, 0) + 1
        self._counts = tuple((source_title(s), f"{n:,}") for s, n in counts.items())
        options = [_ALL, *((f"{source_title(s)} ({n:,})", s) for s, n in counts.items())]
        self.source.offer(options)

    def _wanted(self, infos: Sequence[ModelInfo]) -> list[ModelInfo]:
        words = self.filter.value.casefold().split()
        source = self.source.value
        ranks = {key: rank for rank, key in enumerate(_TITLES)}
        found = [
            info
            for info in infos
            if (not source or info.source == source) and _matches(info, words)
        ]
        return sorted(found, key=lambda info: ranks.get(info.source, len(ranks)))

    def _note_html(self, shown: int, count: int, notes: Sequence[str]) -> str:
        lines = list(notes[:3])
        if count > shown:
            lines.insert(0, f"{count - shown:,} more: filter them, or %llm_models --all.")
        if not count:
            lines.insert(0, "No model matches." if self.filter.value.strip() else "Nothing here.")
        return "".join(f'<div class="nbllm-soft nbllm-wrap">{text_html(w)}</div>' for w in lines)


def _matches(info: ModelInfo, words: Sequence[str]) -> bool:
    names = " ".join([info.name, *info.aliases, kind_words(info), source_title(info.source)])
    return all(word in names.casefold() for word in words)


class _FileRow:
    """One model file, and what can be done with it."""

    def __init__(self, info: ModelInfo, actions: FileActions) -> None:
        self._info, self._actions = info, actions
        name = info.name
        self._head, self._problem, self._fit = text(), text(), text()
        self._load = button("Load", f"Load {name}", lambda: actions.load(name, self._report))
        self._remake = button(
            "Quantize or tune", f"Choose {name} in the form", lambda: actions.remake(name)
        )
        self._delete = button("Delete", f"Delete {name} from this disk, after asking", self._ask)
        self._yes = button("Delete it", f"Delete {name}", self._really)
        self._no = button("Keep it", f"Do not delete {name}", self._keep)
        self._usual = (self._load, self._remake, self._delete)
        buttons = box([*self._usual, self._yes, self._no], "nbllm-buttons")
        line = box([self._fit, buttons], "nbllm-line")
        self.widget: Any = box([self._head, line, self._problem], "nbllm-row", "nbllm-model")
        self._is_asking = self._is_pulled = False

    def update(self, info: ModelInfo, fit: str, *, is_pulled: bool) -> None:
        """Show this; ``is_pulled`` says that it can be deleted."""
        self._info, self._is_pulled = info, is_pulled
        names = "\n".join([info.name, str(info.path or ""), *info.aliases])
        self._head.value = (
            f'<div class="nbllm-model-name"><b dir="auto" '
            f'title="{attribute_html(names)}">{text_html(info.name)}</b></div>'
        )
        kind = text_html(kind_words(self._info))
        self._fit.value = (
            f'<div class="nbllm-details"><div class="nbllm-soft">{kind}</div>'
            f"<div>{text_html(fit)}</div></div>"
        )
        self._show_buttons()

    def _show_buttons(self) -> None:
        for each in (self._yes, self._no):
            mark(each, "nbllm-hidden", on=not self._is_asking)
        for each in self._usual:
            mark(each, "nbllm-hidden", on=self._is_asking)
        if not self._is_asking:
            mark(self._remake, "nbllm-hidden", on=self._info.path is None)
            mark(self._delete, "nbllm-hidden", on=not self._is_pulled)

    def _ask(self) -> None:
        self._actions.ask_deletion(self._info.name, self._question, self._report)

    def _question(self, words: str) -> None:
        self._is_asking = True
        self._problem.value = f'<div class="nbllm-wrap">{text_html(words)}</div>'
        self._show_buttons()

    def _keep(self) -> None:
        self._is_asking = False
        self._report("")

    def _really(self) -> None:
        self._keep()
        self._actions.delete(self._info.name, self._report)

    def _report(self, problem: str) -> None:
        self._problem.value = problem_html(problem)
        self._show_buttons()


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
