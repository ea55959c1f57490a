"""The instruction sets that llama.cpp has code for, and the names of ARM's processors.

Sources: the options of llama.cpp's ``ggml/CMakeLists.txt``; the kernel's
``arch/x86/include/asm/cpufeatures.h``, ``arch/arm64/elf_hwcaps.rst`` and
``arch/arm64/include/asm/cputype.h``; Apple's ``sys/sysctl.h`` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["arm_name", "features_of_flags", "features_of_sysctl"]

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
