"""The forms that bring and make model files: download; quantize and tune."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from IPython.core.error import UsageError

from nbllm.core.downloads import PullPlan, PullProgress, Variant
from nbllm.core.errors import InvalidOptionError
from nbllm.core.hardware.resource_sample import busy_processes, busy_words
from nbllm.core.model_manager import ModelManager
from nbllm.core.quantization import QUANTIZATION_TYPES, Quantization
from nbllm.core.rendering.escaping import text_html
from nbllm.core.types import ModelInfo
from nbllm.core.words import size_words
from nbllm.notebook.dashboard.job_bar import JobBar
from nbllm.notebook.dashboard.widgets import Choice, box, button, card, field, on_submit, text
from nbllm.notebook.loop import LoopThread
from nbllm.notebook.magic_line import share
from nbllm.notebook.models.meter import Meter
from nbllm.notebook.models.pull_magics import progress_words
from nbllm.notebook.models.quantize_magics import outcome_words, tuning_words

__all__ = ["PullForm", "RemakeForm"]

_BEST = ("the best that fits", "")
_TYPES = [(f"{label} · about {bits:g} bits", label) for label, bits in QUANTIZATION_TYPES.items()]


class PullForm:
    """Where from, which variant, and the download. ``on_end`` gets a line for the log."""

    def __init__(
        self, manager: ModelManager, loop: LoopThread, on_end: Callable[[str], None]
    ) -> None:
        self._manager = manager
        self._plan: PullPlan | None = None
        self.bar = JobBar(loop, on_end)
        self.name = field(
            ipywidgets.Text(
                description="Repository or address", placeholder="owner/repository-GGUF"
            ),
            "A repository of Hugging Face, or the https address of a GGUF.",
        )
        self.quant = field(Choice("Variant", options=[_BEST]))
        self.name.observe(lambda _: self._forget(), "value")
        on_submit(self.name, self.look_up)
        self._variants = text()
        look = button("Look up", "List its variants, with what each takes here", self.look_up)
        pull = button("Download", "Download the chosen variant", self.pull, style="primary")
        self.widget = card(
            "Download a model",
            box([self.name, self.quant], "nbllm-fields", "nbllm-two"),
            box([look, pull], "nbllm-actions"),
            self.bar.widget,
            self._variants,
        )
        self.widget.add_class("nbllm-entry")

    def look_up(self) -> None:
        """List the variants of what is named."""
        if name := self._named():
            words = f"Looking up {name} …"
            self.bar.start(lambda: self._look_up(name), words, makes_way=True)

    def pull(self) -> None:
        """Download the variant that is chosen, the best one where none is."""
        if name := self._named():
            self.bar.start(lambda: self._pull(name, self.quant.value), f"Looking up {name} …")

    def _named(self) -> str:
        name: str = self.name.value.strip()
        if not name:
            self.bar.say("Name a repository, such as bartowski/Qwen_Qwen3-4B-GGUF, or an address.")
        return name

    def _forget(self) -> None:
        self._plan = None
        self.quant.options, self._variants.value = [_BEST], ""

    async def _look_up(self, name: str) -> str:
        plan = await self._manager.plan_pull(name)
        if self.name.value.strip() == name:
            self._plan = plan
            self.quant.options = [_BEST, *((v.label, v.files[0].path) for v in plan.variants)]
            self._variants.value = _variants_html(plan)
        return " ".join([plan.reason, *plan.notes])

    async def _pull(self, name: str, quant: str) -> str:
        plan = self._plan if self._plan and not quant else None
        if plan is None:
            plan = await self._manager.plan_pull(name, quant=quant or None)

        def report(progress: PullProgress) -> None:
            self.bar.report(progress_words(progress, has_bar=False), progress.fraction)

        info = await self._manager.pull_model(plan, progress=report)
        return f"{plan.name} is here as {info.name}: {size_words(plan.size_bytes)}."


def _variants_html(plan: PullPlan) -> str:
    head = "".join(f"<th>{words}</th>" for words in ("Variant", "File", "Memory", "Fits", "Speed"))
    rows = "".join(_variant_html(each, plan.chosen) for each in plan.variants)
    return f'<div class="nbllm-table"><table><tr>{head}</tr>{rows}</table></div>'


def _variant_html(variant: Variant, chosen: Variant) -> str:
    speed = variant.tokens_per_second
    cells = (
        f"{variant.label} ✓" if variant is chosen else variant.label,
        size_words(variant.size_bytes),
        size_words(variant.memory_bytes),
        (variant.device or "yes") if variant.fits else "no",
        f"{speed:,.0f} tokens/s" if speed else "",
    )
    return f"<tr>{''.join(f'<td>{text_html(cell)}</td>' for cell in cells)}</tr>"


class RemakeForm:
    """A local model, and what to make of its file. ``on_end`` gets a line for the log."""

    def __init__(
        self, manager: ModelManager, loop: LoopThread, on_end: Callable[[str], None]
    ) -> None:
        self._manager = manager
        self._plans: dict[str, Quantization] = {}
        self.bar = JobBar(loop, on_end)
        self.model = field(Choice("Model"))
        self.type = field(Choice("Quantization", options=_TYPES, value="Q4_K_M"))
        self.to = field(
            ipywidgets.Text(description="Save to", placeholder="beside the model"),
            "The new file, or its folder.",
        )
        self.changed = field(
            ipywidgets.Text("5%", description="Changed tokens at most"),
            "Tune: the share of most likely tokens that the chosen type may change.",
        )
        fields = box([self.model, self.type, self.to, self.changed], "nbllm-fields", "nbllm-pairs")
        self.widget = card(
            "Quantize and tune",
            fields,
            box(
                [
                    button("Sizes", "Compute the exact size of each type", self.size),
                    button("Quantize", "Write a new file of this type", self.quantize),
                    button(
                        "Tune", "Measure the types here and use the fastest; minutes", self.tune
                    ),
                    button("Undo tuning", "Load the model's own file again", self.untune),
                ],
                "nbllm-actions",
            ),
            self.bar.widget,
        )
        self.widget.add_class("nbllm-entry")
        self.model.observe(lambda _: self._forget(), "value")

    def offer(self, infos: Sequence[ModelInfo]) -> None:
        """The models to choose from; the choice is kept if it can be."""
        self.model.offer([info.name for info in infos if info.path is not None])

    def choose(self, name: str) -> None:
        """Work on this model."""
        if name in self.model.options:
            self.model.value = name

    def size(self) -> None:
        """Say exactly how large each type would be."""
        self._start(self._size, "Computing the sizes of {} …", makes_way=True)

    def quantize(self) -> None:
        """Write the file of the chosen type."""
        self._start(self._quantize, "Quantizing {} …")

    def tune(self) -> None:
        """Measure the types, and have later loads use the fastest."""
        self._start(self._tune, "Tuning {} …")

    def untune(self) -> None:
        """Have later loads use the model's own file."""
        self._start(self._untune, "Undoing the tuning of {} …")

    def _start(self, work: Callable[[str], Any], words: str, *, makes_way: bool = False) -> None:
        if name := self.model.value:
            self.bar.start(lambda: work(name), words.format(name), makes_way=makes_way)
        else:
            self.bar.say("There is no local model to work on.")

    def _forget(self) -> None:
        if self._plans:
            self._plans = {}
            self.type.offer(_TYPES)

    async def _size(self, name: str) -> str:
        plans = await self._manager.plan_quantizations(name)
        if self.model.value == name:
            self._plans = {plan.label: plan for plan in plans}
            self.type.offer([(_plan_words(plan), plan.label) for plan in plans])
        return f"{len(plans)} types; the others need an importance matrix (%llm_imatrix)."

    async def _quantize(self, name: str) -> str:
        meter = Meter(f"Quantizing {name} to {self.type.value}")

        def report(fraction: float) -> None:
            meter.report(fraction)
            self.bar.report(meter.words, fraction)

        to = self.to.value.strip() or None
        made = await self._manager.quantize_model(name, self.type.value, to=to, progress=report)
        return outcome_words(made)

    async def _tune(self, name: str) -> str:
        written = self.changed.value.strip()
        try:
            changed = share(written)
        except UsageError:
            words = f"must be a share such as 1% or 0.01 (got {written!r})"
            raise InvalidOptionError("max_changed", words) from None
        busy = busy_words(await asyncio.to_thread(busy_processes))
        meter = Meter(f"Tuning {name}")

        def report(label: str, fraction: float) -> None:
            meter.what, meter.fraction = f"Tuning {name}: {label}", fraction
            self.bar.report(" ".join(filter(None, [busy, meter.words])), fraction)

        return tuning_words(
            await self._manager.tune_model(name, max_changed=changed, report=report)
        )

    async def _untune(self, name: str) -> str:
        was_tuned = await asyncio.to_thread(self._manager.untune_model, name)
        if was_tuned:
            return f"Later loads of {name} use its own file again."
        return f"{name} was not tuned on this machine; its own file is used."


def _plan_words(plan: Quantization) -> str:
    return f"{plan.label} · {size_words(plan.size_bytes)} · {plan.bits_per_weight:.2f} bits"
