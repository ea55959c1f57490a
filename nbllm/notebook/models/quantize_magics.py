"""``%llm_quantize``, ``%llm_imatrix`` and ``%llm_tune``: a local model's file made anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.display import display

from nbllm.core.texts import quoted
from nbllm.core.words import duration_words, size_words
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, names, parse, share
from nbllm.notebook.models.meter import Meter
from nbllm.notebook.running_cell import Stopped, brief_errors
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.quantization import Quantization, Quantized, Tuning
    from nbllm.notebook.views.display import View

__all__ = ["QuantizeMagics", "outcome_words", "tuning_words"]

QUANTIZE = Help(
    """
    %llm_quantize SmolLM2 q4_0                      into the current folder
    %llm_quantize mistral-7b.F16.gguf q4_k_m --imatrix imatrix.gguf
    %llm_quantize phi-3 q5_k_m --to ~/models --replace
    made = %llm_quantize phi-3 q8_0                 the new model's ModelInfo in made.info
""",
    (
        flag("name", help="A local model."),
        flag(
            "type",
            help="The quantization type, such as q4_k_m; %%llm_fit MODEL --quants lists them.",
        ),
        flag("--imatrix", metavar="FILE", help="An importance matrix, from %%llm_imatrix."),
        flag("--to", metavar="PATH", help="The new file, or its folder."),
        flag("--replace", action="store_true", help="Replace a file that exists."),
    ),
)


class QuantizeFlags(Flags):
    """What ``QUANTIZE`` explains."""

    name: str
    type: str
    imatrix: str | None
    to: str | None
    replace: bool


IMATRIX = Help(
    """
    %llm_imatrix SmolLM2 notes.txt                  into the current folder
    %llm_imatrix mistral-7b.F16 chats.txt --chunks 200 --to mistral.imatrix.gguf
""",
    (
        flag("name", help="A local model."),
        flag("text", help="A text file that resembles the model's prompts and answers."),
        flag(
            "--chunks",
            type=int,
            default=100,
            metavar="N",
            help="Number of chunks to use, of 512 tokens each (default: 100).",
        ),
        flag("--to", metavar="PATH", help="The new file, or its folder."),
        flag("--replace", action="store_true", help="Replace a file that exists."),
    ),
)


class ImatrixFlags(Flags):
    """What ``IMATRIX`` explains."""

    name: str
    text: str
    chunks: int
    to: str | None
    replace: bool


TUNE = Help(
    """
    %llm_tune SmolLM2                               in minutes
    %llm_tune phi-3 --max-changed 1% --thorough
    %llm_tune phi-3 --types q4_0,q8_0
    %llm_tune phi-3 --off                           its own file again
""",
    (
        flag("name", help="A local model."),
        flag(
            "--max-changed",
            type=share,
            default=0.05,
            metavar="SHARE",
            help="Share of most likely tokens that may change, as 1%% or 0.01 (default: 5%%).",
        ),
        flag("--types", type=names, metavar="TYPES", help="Try these types, as q4_0,q8_0."),
        flag("--imatrix", metavar="FILE", help="An importance matrix, from %%llm_imatrix."),
        flag("--thorough", action="store_true", help="Measure speeds for longer; more exact."),
        flag("--off", action="store_true", help="Load the model's own file again from now on."),
    ),
)


class TuneFlags(Flags):
    """What ``TUNE`` explains; ``max_changed`` is a fraction."""

    name: str
    max_changed: float
    types: tuple[str, ...] | None
    imatrix: str | None
    thorough: bool
    off: bool


def _check_alone(args: TuneFlags) -> None:
    """Raise ``UsageError`` for what ``--off`` would leave aside."""
    if args.types or args.imatrix or args.thorough:
        raise UsageError(
            "--off only goes back to the model's own file; to tune it again, leave --off out"
        )


Made = TypeVar("Made")
_TYPE = re.compile(r"b?f(?:16|32)|(?:iq|tq|q)\d(?:[_-]\w+)?", re.IGNORECASE)


@magics_class
class QuantizeMagics(SessionMagics):
    """The magics that make a model's file anew."""

    @no_var_expand
    @with_help(QUANTIZE)
    @line_magic
    def llm_quantize(self, line: str) -> Quantized:
        """Quantize a local model to another type, into a file of its own.

        llama.cpp does it, in a process of its own; an interrupt stops it and leaves no file.
        Returns what was made: its ``info`` can be loaded.
        """
        args = parse(parser_of(self, "llm_quantize"), line, QuantizeFlags())
        _check_order(args)
        meter = Meter(f"Quantizing {args.name}")

        def planned(plan: Quantization) -> None:
            meter.what = f"Quantizing {args.name} to {_size(plan)}"

        with brief_errors():
            view = self.session.open_view("llm_quantize")
            work = self.session.manager.quantize_model(
                args.name,
                args.type,
                to=args.to,
                imatrix=args.imatrix,
                replace=args.replace,
                on_plan=planned,
                progress=meter.report,
            )
            made = self._run(work, meter, view, f"Quantizing {args.name}")
            view.keep(outcome_words(made))
            return made

    @no_var_expand
    @with_help(IMATRIX)
    @line_magic
    def llm_imatrix(self, line: str) -> Path:
        """Write a local model's importance matrix over a text, for %llm_quantize --imatrix.

        The model evaluates the text, which should resemble its prompts and answers, and llama.cpp
        records the activations that the weights are multiplied by. An interrupt stops it
        and leaves no file. Returns the path of the file.
        """
        args = parse(parser_of(self, "llm_imatrix"), line, ImatrixFlags())
        meter = Meter(f"Importance matrix of {args.name}")
        with brief_errors():
            view = self.session.open_view("llm_imatrix")
            work = self.session.manager.make_imatrix(
                args.name,
                args.text,
                to=args.to,
                chunks=args.chunks,
                replace=args.replace,
                progress=meter.report,
            )
            path = self._run(work, meter, view, "The importance matrix")
            use = f"%llm_quantize {quoted(args.name)} TYPE --imatrix {quoted(str(path))}"
            view.keep(f"{path}: use it with {use}")
            return path

    @no_var_expand
    @with_help(TUNE)
    @line_magic
    def llm_tune(self, line: str) -> pd.DataFrame | None:
        """Find the fastest quantization of a local model here; later loads use it.

        Speed and fidelity of the types are measured in processes of their own, which takes
        minutes. An interrupt stops it and keeps nothing. Returns what was measured as a DataFrame.
        """
        args = parse(parser_of(self, "llm_tune"), line, TuneFlags())
        with brief_errors():
            view = self.session.open_view("llm_tune")
            if args.off:
                _check_alone(args)
                view.keep(self._untune(args.name))
                return None
            tuning = self._tune(args, view)
        from nbllm.notebook.models.speed_tables import tune_figure, tune_table

        display(tune_figure(tuning))  # type: ignore[no-untyped-call]
        return tune_table(tuning)

    def _tune(self, args: TuneFlags, view: View) -> Tuning:
        from nbllm.core.hardware.resource_sample import busy_processes, busy_words

        busy = busy_words(busy_processes())
        meter = Meter(f"Tuning {args.name}")

        def report(label: str, fraction: float) -> None:
            meter.what, meter.fraction = f"Tuning {args.name}: {label}", fraction

        def begun() -> None:  # what is wrong with the line has been said by then
            nonlocal busy
            if busy and meter.fraction:
                view.keep(busy)
                busy = ""

        work = self.session.manager.tune_model(
            args.name,
            max_changed=args.max_changed,
            types=args.types or (),
            imatrix=args.imatrix,
            thorough=args.thorough,
            report=report,
        )
        tuning = self._run(work, meter, view, f"Tuning {args.name}", on_tick=begun)
        view.keep(tuning_words(tuning))
        return tuning

    def _untune(self, name: str) -> str:
        if self.session.manager.untune_model(name):
            return f"Later loads of {name} use its own file again."
        return f"{name} was not tuned on this machine; its own file is used."

    def _run(
        self,
        work: Coroutine[Any, Any, Made],
        meter: Meter,
        view: View,
        what: str,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Made:
        def look() -> None:
            on_tick()
            view.note(str(meter))

        try:
            return self.session.loop.run(work, on_tick=look)
        except KeyboardInterrupt:
            view.drop_note("")
            raise Stopped(f"{what} was stopped; nothing was kept.") from None


def _check_order(args: QuantizeFlags) -> None:
    """Raise ``UsageError`` where a type stands in the place of the model."""
    is_type = [re.fullmatch(_TYPE, word) is not None for word in (args.name, args.type)]
    if is_type == [True, False]:
        raise UsageError(f"the model comes first: %llm_quantize {quoted(args.type)} {args.name}")


def _size(plan: Quantization) -> str:
    return f"{plan.label} ({size_words(plan.size_bytes)}, {plan.bits_per_weight:.2f} bits/weight)"


def outcome_words(made: Quantized) -> str:
    """What was made, and what llama.cpp had to do otherwise."""
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
    lines.append(f"Load it with %llm_load {quoted(made.info.name)}")
    return " ".join(lines)


def _requantized(made: Quantized) -> list[str]:
    """Quantizing twice loses twice; said where the source was coarse already."""
    source = (made.source.quantization or "").upper()
    if not source or source in ("F32", "F16", "BF16"):
        return []
    from nbllm.core.quantization import QUANTIZATION_TYPES as sizes  # noqa: N811

    if source in sizes and sizes[made.quantization.label] > sizes[source]:
        return [
            f"The source was quantized already ({source}): the larger type takes more memory and "
            "does not bring back what was lost."
        ]
    return [
        f"The source was quantized already ({source}), so the new file has the errors of "
        "both; from the model's F16, BF16 or Q8_0 file the result would be better."
    ]


def tuning_words(tuning: Tuning) -> str:
    """What was chosen, by which rule, and how to go back."""
    best, source, name = tuning.best, tuning.source, tuning.info.name
    rule = f"with at most {tuning.max_changed:.1%} of the likeliest tokens changed"
    if best is source:
        found = f"{name} stays as it is ({source.label}): {rule}, no type is faster here."
    else:
        found = (
            f"{name}: {best.label} is the fastest {rule} ({best.changed:.1%}): "
            f"{best.decode / source.decode:.2f} times the decode speed of {source.label} and "
            f"{best.prefill / source.prefill:.2f} times its prefill speed."
        )
    if tuning.noisy:
        return (
            f"{found} Other processes kept the processors busy meanwhile, so nothing was kept; "
            "tune again when the machine is quiet."
        )
    if best is source:
        return found
    context = f" with {best.benchmark.context.words()}" if best.benchmark.context else ""
    return (
        f"{found} Later loads on this machine use it{context} ({size_words(best.size_bytes)} at "
        f"{tuning.path}); %llm_tune {quoted(name)} --off goes back."
    )
