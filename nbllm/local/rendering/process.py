"""The process that renders one model's chat template: ``python -m nbllm.local.rendering.process``.

A template is a foreign program. In a process of its own it can take neither the worker's time nor
its memory, whatever it does and in whichever function of C it hangs. It reads a request a line and
answers each by a line of JSON; its input ends when the worker does.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from contextlib import suppress
from typing import Any

from nbllm.local.rendering.template import Template
from nbllm.local.request_refusals import TemplateRefusalError

__all__ = ["MEMORY_BYTES", "WALL_SECONDS", "main"]

WALL_SECONDS = 30.0
"""A request that takes longer ends the process, even where nobody is left to end it."""
MEMORY_BYTES = 512 * 2**20
"""What a template may take besides what the process has before its first request."""

_LEAST_OUTPUT, _OUTPUT_FACTOR = 2**20, 8


def main() -> None:
    """Answer requests until the input ends: ``setup`` first, then ``render`` and ``written``."""
    _limit_itself()
    template: Template | None = None
    for line in sys.stdin.buffer:
        faulthandler.dump_traceback_later(WALL_SECONDS, exit=True)
        request = json.loads(line)
        try:
            if request["op"] == "setup":
                template = Template(
                    request["source"],
                    bos=request["bos"],
                    eos=request["eos"],
                    marks=request["marks"],
                    own=request["own"],
                )
                answer: dict[str, Any] = {}
            else:
                assert template is not None  # noqa: S101 - the setup was answered
                limit = _LEAST_OUTPUT + _OUTPUT_FACTOR * len(line)
                answer = _ANSWERS[request["op"]](template, request, limit)
        except TemplateRefusalError as error:
            answer = {"problem": str(error)}
        except MemoryError:
            answer = {"problem": "its chat template exceeds the memory limit"}
        except RecursionError:
            answer = {
                "problem": "its chat template rejected the conversation: it is nested too deeply"
            }
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _rendered(template: Template, request: dict[str, Any], limit: int) -> dict[str, Any]:
    rendered = template.render(
        request["turns"],
        tools=request["tools"],
        effort=request["effort"],
        shows_tools=request["shows_tools"],
    )
    if len(rendered.text) > limit:
        problem = f"its chat template wrote {len(rendered.text):,} characters (at most {limit:,})"
        raise TemplateRefusalError(problem)
    return {
        "text": rendered.text,
        "guard": rendered.guard,
        "shows_tools": rendered.shows_tools,
        "begun": rendered.begun,
    }


def _written(template: Template, request: dict[str, Any], limit: int) -> dict[str, Any]:
    text = template.written(request["turns"], request["tools"])
    return {"text": text if len(text or "") <= limit else None}


_ANSWERS = {"render": _rendered, "written": _written}


def _limit_itself() -> None:
    """Give up what rendering needs not, as far as the system has such limits."""
    with suppress(ImportError, OSError, ValueError):  # Windows has none
        import resource

        import psutil

        most = psutil.Process().memory_info().vms + MEMORY_BYTES
        limits = {
            resource.RLIMIT_AS: most,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
        }
        for limit, value in limits.items():
            with suppress(OSError, ValueError):
                resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()
