"""``%llm_fit`` and ``%llm_bench``: where a model fits on this machine, and how fast it is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.display import display

from nbllm.core.words import counted, duration_words
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.models.meter import Meter
from nbllm.notebook.running_cell import Stopped, brief_errors
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.measurements import Benchmark
    from nbllm.core.types import ModelInfo
    from nbllm.notebook.tables import Table
    from nbllm.notebook.views.display import View

__all__ = ["BenchMagics", "FitMagics"]

FIT = Help(
    """
    %llm_fit                              the bundled model
    fit = %llm_fit qwen3
    fit[fit["fits"] & (fit["context (tokens)"] >= 32768)]
    %llm_fit qwen3 --quants               each quantization type: size, memory, device
    %llm_fit qwen3 --rpc 192.168.1.20:50052 with the memory of another machine
""",
    (
        flag("name", nargs="?", help="A local model (default: the bundled one)."),
        flag(
            "--quants", action="store_true", help="List quantization types instead of placements."
        ),
    ),
    options="load",
    only=("rpc", "rpc_public"),
)


class FitFlags(Flags):
    """What ``FIT`` explains."""

    name: str | None
    quants: bool


@magics_class
class FitMagics(SessionMagics):
    """The magic that tells what fits."""

    @no_var_expand
    @with_help(FIT)
    @line_magic
    def llm_fit(self, line: str) -> pd.DataFrame:
        """List the ways to load a local model, with their memory and whether they fit.

        Nothing is loaded: what devices, context lengths and KV cache types need is computed from
        the header of the file, and compared with the memory that is free now.
        """
        args = parse(parser_of(self, "llm_fit"), line, FitFlags())
        with brief_errors():
            from nbllm.core.openers import fit_model
            from nbllm.core.resource_detector import ResourceDetector
            from nbllm.core.types import LoadOptions
            from nbllm.notebook.models.fit_tables import fit_table

            manager = self.session.manager
            info = manager.bundled_model() if args.name is None else manager.find_model(args.name)
            from nbllm.core.kinds import kind_of

            if not kind_of(info).takes_memory:
                raise UsageError(
                    f"{info.name} is not a local model; only local models can be fitted"
                )
            servers = LoadOptions.of({name: vars(args)[name] for name in FIT.only})
            info = replace(info, load=info.load.merged(servers))
            if args.quants:
                return self._quantizations(info)
            return fit_table(fit_model(info, ResourceDetector().detect()))

    def _quantizations(self, info: ModelInfo) -> Table:
        """The types that the model can be quantized to, with their sizes and places."""
        from nbllm.notebook.models.fit_tables import quantizations_table

        manager = self.session.manager
        plans = self.session.loop.run(manager.plan_quantizations(info.name))
        return quantizations_table(info, plans, manager.detect_resources())


BENCH = Help(
    """
    %llm_bench                            the bundled model, in seconds
    %llm_bench phi-3 --thorough --plot    in minutes, and more exact
    %llm_bench qwen3-30b-a3b --cpu-experts -1 with all experts in main memory
    %llm_bench phi-3 --no-kv-unified      also with flash attention on and off
    speeds = %llm_bench ~/models/mistral-7b.Q4_K_M.gguf
""",
    (
        flag("name", nargs="?", help="A local model (default: the bundled one)."),
        flag("--thorough", action="store_true", help="Measure for minutes; more exact."),
        flag("--plot", action="store_true", help="Also show a plot."),
    ),
    options="load",
    only=("cpu_experts", "kv_unified", "rpc", "rpc_public"),
)


class BenchFlags(Flags):
    """What ``BENCH`` explains."""

    name: str | None
    thorough: bool
    plot: bool


@magics_class
class BenchMagics(SessionMagics):
    """The magic that measures."""

    @no_var_expand
    @with_help(BENCH)
    @line_magic
    def llm_bench(self, line: str) -> pd.DataFrame:
        """Measure a local model, and have later loads use the fastest settings.

        Prefill and decode are measured over numbers of threads and of sequences, in a process of
        its own. Of a model whose KV cache is not unified, and that the CPU alone computes, flash
        attention and batch sizes are compared too: by the time of a prompt of 512 tokens and an
        answer of 256. An interrupt stops it and keeps nothing. Results that other programs
        disturbed are marked as noisy. Returns the speeds as a DataFrame.
        """
        args = parse(parser_of(self, "llm_bench"), line, BenchFlags())
        with brief_errors():
            info = self._as_asked(self._model(args.name), args)
            view = self.session.open_view("llm_bench")
            found = self._measure(info, view, thorough=args.thorough)
        from nbllm.notebook.models.speed_tables import bench_figure, bench_table

        if args.plot:
            display(bench_figure(info.name, found))  # type: ignore[no-untyped-call]
        return bench_table(found)

    def _model(self, name: str | None) -> ModelInfo:
        manager = self.session.manager
        info = manager.bundled_model() if name is None else manager.find_model(name)
        from nbllm.core.kinds import kind_of

        if not kind_of(info).takes_memory:
            raise UsageError(f"{info.name} is not a local model; only local models can be measured")
        return info

    def _as_asked(self, info: ModelInfo, args: BenchFlags) -> ModelInfo:
        from nbllm.core.types import LoadOptions

        asked = LoadOptions.of({name: vars(args)[name] for name in BENCH.only})
        return replace(info, load=info.load.merged(asked))

    def _measure(self, info: ModelInfo, view: View, *, thorough: bool) -> Benchmark:
        from nbllm.core.hardware.resource_sample import busy_processes, busy_words
        from nbllm.core.openers import bench_seconds, measure_model
        from nbllm.core.resource_detector import ResourceDetector

        resources = ResourceDetector().detect()
        seconds = bench_seconds(info, resources, thorough=thorough)
        view.keep(_plan_words(info.name, seconds, busy_words(busy_processes())))
        meter = Meter(f"Measuring {info.name}")
        work = measure_model(info, resources, thorough=thorough, progress=meter.report)
        try:
            found = self.session.loop.run(work, on_tick=lambda: view.note(str(meter)))
        except KeyboardInterrupt:
            view.drop_note("")
            raise Stopped(f"Measuring {info.name} was stopped; nothing was kept.") from None
        view.keep(_outcome(info.name, found))
        return found


def _outcome(model: str, found: Benchmark) -> str:
    threads = found.threads
    context = f", {found.context.words()}" if found.context else ""
    told = f"{model}: fastest with {counted(threads.decode, 'thread')} for decode and " + (
        f"{counted(threads.batch, 'thread')} for prefill{context}."
    )
    if found.device != "CPU":
        return f"{told} Measured on {found.device}; loads on the CPU do not go by it."
    if not found.noisy:
        return f"{told} Later loads on this machine use them."
    return (
        f"{told} Noisy: other processes kept {found.other_cores:.1f} cores busy meanwhile, so "
        "later loads do not use it; measure again when the machine is quiet."
    )


def _plan_words(model: str, seconds: float, busy: str) -> str:
    time = duration_words(seconds)
    return f"Measuring {model} takes up to {time} on a quiet machine. {busy}".rstrip()
