"""What the operating system says of the machine as a whole, this process's limits aside.

Sources of the instruction sets: the options of llama.cpp's ``ggml/CMakeLists.txt``; the kernel's
``arch/x86/include/asm/cpufeatures.h``, ``arch/arm64/elf_hwcaps.rst`` and
``arch/arm64/include/asm/cputype.h``; Apple's ``sys/sysctl.h`` names.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Machine",
    "MachineMemory",
    "Processors",
    "arm_name",
    "features_of_flags",
    "features_of_sysctl",
    "linux_cpu_times",
    "linux_memory",
    "linux_processors",
    "mac_processors",
    "output_of",
    "processor_numbers",
    "sysctl_facts",
]

# By their names in /proc/cpuinfo, in the order of their age.
_FLAGS = {
    "pni": "sse3",
    "ssse3": "ssse3",
    "sse4_2": "sse4_2",
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "bmi2": "bmi2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vbmi": "avx512vbmi",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
_APPLE = {
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
}
_INTEL_MAC = {"sse3": "pni", "avx1.0": "avx", "sse4.2": "sse4_2"}
_ARM_PARTS = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse N1",
    ("0x41", "0xd40"): "Neoverse V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse N2",
    ("0x41", "0xd4f"): "Neoverse V2",
    ("0x41", "0xd83"): "Neoverse V3AE",
    ("0x41", "0xd84"): "Neoverse V3",
    ("0x41", "0xd85"): "Cortex-X925",
    ("0x41", "0xd87"): "Cortex-A725",
    ("0xc0", "0xac3"): "Ampere-1",
    ("0xc0", "0xac4"): "Ampere-1A",
}


def features_of_flags(flags: Iterable[str]) -> tuple[str, ...]:
    """The sets of interest among the words of ``/proc/cpuinfo``."""
    known = set(flags)
    return tuple(name for flag, name in _FLAGS.items() if flag in known)


def features_of_sysctl(facts: Mapping[str, str]) -> tuple[str, ...]:
    """The same from what macOS's ``sysctl`` says, on Apple's chips and Intel's."""
    found = tuple(name for key, name in _APPLE.items() if facts.get(key) == "1")
    words = f"{facts.get('machdep.cpu.features', '')} {facts.get('machdep.cpu.leaf7_features', '')}"
    return found or features_of_flags(_INTEL_MAC.get(word, word) for word in words.lower().split())


def arm_name(implementer: str | None, part: str | None) -> str | None:
    """The name of a core, for systems that tell nothing but its numbers."""
    return _ARM_PARTS.get((implementer or "", part or ""))


_MODEL_KEYS = ("model name", "Model", "cpu model", "Hardware", "cpu", "uarch")
_SYSCTL = "/usr/sbin/sysctl"
_BRAND = "machdep.cpu.brand_string"
_FAST_CORES = "hw.perflevel0.physicalcpu"
_MAC_FEATURES = ("hw.optional", "machdep.cpu.features", "machdep.cpu.leaf7_features")
_WINDOWS_CPU = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes of memory and of swap; ``available`` without swapping."""

    total: int
    available: int
    swap_total: int
    swap_free: int


@dataclass(frozen=True, slots=True)
class Processors:
    """Their name, the number of sockets, the instruction sets of interest, the fast cores."""

    model: str | None = None
    sockets: int | None = None
    features: tuple[str, ...] = ()
    performance_cores: int | None = None


class Machine:
    """The machine that this process runs on; ``root`` is where its file system begins."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def memory(self) -> MachineMemory:
        """The memory of all of the machine."""
        memory = linux_memory(self.root)
        if memory is not None:  # psutil warns on its way where /proc is incomplete, as in gVisor
            return memory
        import psutil

        whole, swap = psutil.virtual_memory(), psutil.swap_memory()
        return MachineMemory(whole.total, whole.available, swap.total, swap.free)

    def processors(self) -> Processors:
        """What kind of processors these are."""
        if sys.platform == "darwin":
            return mac_processors(self.sysctl(_BRAND, _FAST_CORES, *_MAC_FEATURES))
        return linux_processors(self.root) or Processors(model=_model_elsewhere())

    def logical_cores(self) -> int:
        """The processors that the operating system schedules on."""
        return os.cpu_count() or 1

    def physical_cores(self) -> int | None:
        """The cores, hyper-threads not counted."""
        import psutil

        return psutil.cpu_count(logical=False)

    def cores_behind(self, processors: Collection[int]) -> int | None:
        """How many cores these processors are, hyper-threads of one core taken together."""
        folder = self.root / "sys/devices/system/cpu"
        siblings = {
            _text(folder / f"cpu{number}/topology/thread_siblings_list") for number in processors
        }
        return None if "" in siblings else len(siblings) or None

    def affinity(self) -> frozenset[int] | None:
        """The processors that this process may run on; None where the system has no such limit."""
        if hasattr(os, "sched_getaffinity"):
            return frozenset(os.sched_getaffinity(0))
        import psutil

        ask = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
        return None if ask is None else frozenset(ask())

    def address_space(self) -> int | None:
        """The bytes that ``ulimit -v`` leaves each process; None where there is no such limit."""
        try:
            import resource
        except ImportError:  # Windows
            return None
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        return None if limit == resource.RLIM_INFINITY else limit

    def architecture(self) -> str:
        """Such as "x86_64" or "arm64"."""
        return platform.machine()

    def busy_seconds(self, processors: Collection[int] | None) -> tuple[float, float]:
        """The time that these processors (None: all) have worked since the start, and all time."""
        times = linux_cpu_times(self.root)
        if times is None:
            import psutil

            every = enumerate(psutil.cpu_times(percpu=True))
            times = {number: (sum(cpu) - cpu.idle, sum(cpu)) for number, cpu in every}
        chosen = [
            pair for number, pair in times.items() if processors is None or number in processors
        ]
        return sum(busy for busy, _ in chosen), sum(total for _, total in chosen)

    def sysctl(self, *names: str) -> dict[str, str]:
        """What macOS's kernel says under these names, or below them; what it lacks is left out."""
        return sysctl_facts(output_of((_SYSCTL, *names)) or "")


# ---------------------------------------------------------------- Linux


def linux_memory(root: Path) -> MachineMemory | None:
    """What ``/proc/meminfo`` says; None where there is none, or it leaves something out."""
    text = _text(root / "proc/meminfo")
    found = dict(re.findall(r"^(\w+):\s+([0-9]{1,19}) kB$", text, re.MULTILINE))
    try:
        total, available = int(found["MemTotal"]), int(found["MemAvailable"])
    except KeyError:
        return None
    swap_total, swap_free = (int(found.get(key, 0)) for key in ("SwapTotal", "SwapFree"))
    return MachineMemory(*(1024 * size for size in (total, available, swap_total, swap_free)))


def linux_processors(root: Path) -> Processors | None:
    """What ``/proc/cpuinfo`` says; None where there is none. Its keys differ by architecture."""
    text = _text(root / "proc/cpuinfo")
    if not text:
        return None
    found: dict[str, str] = {}
    sockets = set()
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if value:
            found.setdefault(key, value)
        if key == "physical id":
            sockets.add(value)
    flags = (found.get("flags") or found.get("Features") or "").split()
    name = next((found[key] for key in _MODEL_KEYS if key in found), None)
    board = _text(root / "proc/device-tree/model").strip("\0\n ")
    core = arm_name(found.get("CPU implementer"), found.get("CPU part"))
    fast = _text(root / "sys/devices/cpu_core/cpus").strip()  # only where there are two kinds
    return Processors(
        model=name or ", ".join(filter(None, (board, core))) or None,
        sockets=len(sockets) or None,
        features=features_of_flags(flags),
        performance_cores=Machine(root).cores_behind(processor_numbers(fast) or ()),
    )


def linux_cpu_times(root: Path) -> dict[int, tuple[float, float]] | None:
    """For each processor that is on, the time at work and all time, from ``/proc/stat``.

    In clock ticks, since only their ratio counts. Waiting for a disk is not work; a guest's time
    is counted within the user's. None where there is no such file.
    """
    lines = re.findall(r"^cpu([0-9]+) ([0-9 ]+)$", _text(root / "proc/stat"), re.MULTILINE)
    rows = {int(number): [float(tick) for tick in ticks.split()[:8]] for number, ticks in lines}
    if not rows or any(len(row) < 5 for row in rows.values()):
        return None
    return {number: (sum(row) - row[3] - row[4], sum(row)) for number, row in rows.items()}


def processor_numbers(text: str) -> frozenset[int] | None:
    """The numbers of a list such as "0-3,8", as the kernel writes sets of processors."""
    if not re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", text):
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


# ---------------------------------------------------------------- macOS, Windows and others


def sysctl_facts(output: str) -> dict[str, str]:
    """The lines of ``sysctl``, each "name: value"."""
    pairs = (line.partition(": ") for line in output.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def mac_processors(facts: Mapping[str, str]) -> Processors:
    """What ``sysctl`` says of a Mac's processors. No Mac on sale has more than one socket."""
    fast = facts.get(_FAST_CORES, "")
    return Processors(
        model=facts.get(_BRAND),
        sockets=1,
        features=features_of_sysctl(facts),
        performance_cores=int(fast) if fast.isdecimal() else None,
    )


def _model_elsewhere() -> str | None:
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _WINDOWS_CPU) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip() or None
    return platform.processor() or None


def output_of(command: Sequence[str]) -> str | None:
    """What a command writes, even if it fails in part; None where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
