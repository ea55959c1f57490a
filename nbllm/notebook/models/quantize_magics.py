"""``%llm_quantize``: a local model's file anew, in another quantization."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import TYPE_CHECKING

from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.core.words import duration_words, size_words
from nbllm.notebook.arguments import parse
from nbllm.notebook.failures import Stopped, brief_errors
from nbllm.notebook.flags import QUANTIZE, parser_of, with_help
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    from nbllm.core.quantization import Quantization, Quantized
    from nbllm.notebook.views.display import View

__all__ = ["QuantizeMagics", "progress_bar"]

_BAR_CELLS = 24


@magics_class
class QuantizeMagics(SessionMagics):
    """The magic that quantizes."""

    @no_var_expand
    @with_help(QUANTIZE)
    @line_magic
    def llm_quantize(self, line: str) -> Quantized:
        """Quantize a local model to another type, into a file of its own.

        llama.cpp does it, in a process of its own; an interrupt stops it and leaves no file.
        Returns what was made: its ``info`` can be loaded.
        """
        args = parse(parser_of(self, "llm_quantize"), line)
        with brief_errors():
            return self._quantize(args, self.session.open_view("llm_quantize"))

    def _quantize(self, args: Namespace, view: View) -> Quantized:
        plans: list[Quantization] = []
        fraction, began = 0.0, time.monotonic()

        def report(now: float) -> None:
            nonlocal fraction
            fraction = now

        def look() -> None:
            if plans:
                what = f"Quantizing {args.name} to {_size(plans[0])}"
                view.note(progress_bar(what, fraction, time.monotonic() - began))

        work = self.session.manager.quantize_model(
            args.name,
            args.type,
            to=args.to,
            imatrix=args.imatrix,
            replace=args.replace,
            on_plan=plans.append,
            progress=report,
        )
        try:
            made = self.session.loop.run(work, on_tick=look)
        except KeyboardInterrupt:
            view.drop_note("")
            raise Stopped(f"Quantizing {args.name} was stopped; no file was left.") from None
        view.keep(_outcome(made))
        return made


def progress_bar(what: str, fraction: float, seconds: float) -> str:
    """A line with a bar and, when it can be told, the time that is left."""
    done = round(fraction * _BAR_CELLS)
    bar = "█" * done + "░" * (_BAR_CELLS - done)
    left = ""
    if fraction > 0.1:
        left = f", {duration_words(seconds / fraction - seconds)} left"
    return f"{what} {bar} {fraction:.0%}{left}"


def _size(plan: Quantization) -> str:
    return f"{plan.label} ({size_words(plan.size_bytes)}, {plan.bits_per_weight:.2f} bits/weight)"


def _outcome(made: Quantized) -> str:
    before = size_words(made.source.size_bytes or 0)
    lines = [
        f"{made.info.path}: {_size(made.quantization)}, {before} before; "
        f"{duration_words(made.seconds)}."
    ]
    counts = made.quantization.fallbacks
    if counts:
        tensors = sum(counts.values())
        fallen = ", ".join(f"{count} to {used}" for (_, used), count in counts.items())
        lines.append(
            f"llama.cpp used a larger type for {tensors} of "
            f"{len(made.quantization.tensor_types)} tensors, whose rows do not divide into the "
            f"blocks of the type meant for them: {fallen}."
        )
    lines += _requantized(made)
    lines.append(f"Load it with %llm_load {made.info.name}")
    return " ".join(lines)


def _requantized(made: Quantized) -> list[str]:
    """Quantizing twice loses twice; said where the source was coarse already."""
    source = made.source.quantization
    if not source or source.upper() in ("F32", "F16", "BF16"):
        return []
    return [
        f"The source was quantized already ({source.upper()}), so the new file has the errors of "
        "both; from the model's F16, BF16 or Q8_0 file the result would be better."
    ]
