"""``%llm_fit``: on which devices a model fits, with which context."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.failures import brief_errors
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.types import ModelInfo
    from nbllm.notebook.tables import Table

__all__ = ["FitMagics"]

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
            from nbllm.notebook.models.fit_table import fit_table

            manager = self.session.manager
            info = manager.find_model(args.name) if args.name else manager.bundled_model()
            from nbllm.core.kinds import kind_of

            if not kind_of(info).takes_memory:
                raise UsageError(
                    f"{info.name} is not a local model; only local models can be fitted"
                )
            if args.quants:
                return self._quantizations(info)
            servers = LoadOptions.of({name: vars(args)[name] for name in FIT.only})
            info = replace(info, load=info.load.merged(servers))
            return fit_table(fit_model(info, ResourceDetector().detect()))

    def _quantizations(self, info: ModelInfo) -> Table:
        """The types that the model can be quantized to, with their sizes and places."""
        from nbllm.notebook.models.fit_table import quantizations_table

        manager = self.session.manager
        plans = self.session.loop.run(manager.plan_quantizations(info.name))
        return quantizations_table(info, plans, manager.detect_resources())
