"""Which GPUs the variables of CUDA and ROCm leave to a process.

Sources: the CUDA programming guide ("CUDA environment variables") and NVIDIA's MIG user guide;
PyTorch's ``torch/cuda/__init__.py`` (``_parse_visible_devices``) for what the driver makes of odd
values; DataDog's agent (pull request 36377) for GPUs that are divided beside those that are not;
ROCm's "GPU isolation techniques".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Choice", "CudaDevice", "choose_cuda_devices", "choose_rocm_devices"]


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU, or an instance of a divided one with the GPU's ``index`` and ``parent_uuid``.

    ``instance_path`` is "GPU instance/compute instance", as older drivers name it.
    """

    index: int
    name: str
    uuid: str | None
    mig_index: int | None = None
    parent_uuid: str | None = None
    instance_path: str | None = None

    @property
    def is_instance(self) -> bool:
        """Whether it is part of a divided GPU."""
        return self.mig_index is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """Positions in the list of devices, in the library's own order, and what to say of it.

    ``hidden`` says for each other position why it is not there.
    """

    positions: tuple[int, ...]
    hidden: Mapping[int, str]
    problems: tuple[str, ...] = ()


# ---------------------------------------------------------------- CUDA


def choose_cuda_devices(devices: Sequence[CudaDevice], environ: Mapping[str, str]) -> Choice:
    """What CUDA offers to a process with these variables; ``devices`` in the driver's order."""
    value = environ.get("CUDA_VISIBLE_DEVICES")
    numbered = _as_cuda_numbers(devices)
    named: list[int] = numbered
    problems = _doubt_about_order(devices, environ)
    if value is not None:
        named, ending = _named_by(value, devices, numbered)
        problems += ending
    chosen = _instance_or_whole(devices, named)
    hidden = {
        position: _why_hidden(device, value, named=position in named or value is None)
        for position, device in enumerate(devices)
        if position not in chosen
    }
    return Choice(tuple(chosen), hidden, problems)


def _as_cuda_numbers(devices: Sequence[CudaDevice]) -> list[int]:
    """Whole GPUs first; of each divided one, the first instance at the end."""
    whole = [place for place, device in enumerate(devices) if not device.is_instance]
    firsts: dict[int, int] = {}
    for place, device in enumerate(devices):
        if device.is_instance:
            firsts.setdefault(device.index, place)
    return whole + list(firsts.values())


def _instance_or_whole(devices: Sequence[CudaDevice], named: Sequence[int]) -> list[int]:
    """A process can use a single instance, and none beside a whole GPU."""
    if named and devices[named[0]].is_instance:
        return [named[0]]
    return [place for place in named if not devices[place].is_instance]


def _named_by(
    value: str, devices: Sequence[CudaDevice], numbered: Sequence[int]
) -> tuple[list[int], tuple[str, ...]]:
    """The positions that a list names. It ends at the first entry that names nothing."""
    entries = [entry.strip() for entry in value.split(",")]
    kind = _kind(entries[0])
    found: list[int] = []
    for entry in entries:
        position = _position(entry, devices, numbered) if _kind(entry) == kind else None
        if position is None:
            return found, _ending(value, entry)
        if position in found:
            return [], (f"CUDA_VISIBLE_DEVICES={value} names a GPU twice, so CUDA shows none.",)
        found.append(position)
    return found, ()


def _kind(entry: str) -> str:
    return entry[:4] if entry.startswith(("GPU-", "MIG-")) else "number"


def _position(entry: str, devices: Sequence[CudaDevice], numbered: Sequence[int]) -> int | None:
    if entry.startswith("GPU-"):
        return _only(
            [
                place
                for place in numbered
                if (devices[place].parent_uuid or devices[place].uuid or "").startswith(entry)
            ]
        )
    if entry.startswith("MIG-"):
        return _only([place for place, one in enumerate(devices) if _is_instance_of(one, entry)])
    number = re.match(r"\+?([0-9]{1,9})", entry)  # as strtoul: what follows the digits is ignored
    if number is None or int(number[1]) >= len(numbered):
        return None
    return numbered[int(number[1])]


def _is_instance_of(device: CudaDevice, entry: str) -> bool:
    old_name = f"MIG-{device.parent_uuid}/{device.instance_path}"
    return device.is_instance and (
        (device.uuid or "").startswith(entry) or (entry == old_name and "/" in entry)
    )


def _only(places: list[int]) -> int | None:
    return places[0] if len(places) == 1 else None


def _ending(value: str, entry: str) -> tuple[str, ...]:
    if not entry or entry.startswith("-"):  # meant to hide all that follows
        return ()
    return (
        f'CUDA_VISIBLE_DEVICES={value}: no GPU is called "{entry}", so CUDA ignores it and '
        "everything after it.",
    )


def _doubt_about_order(
    devices: Sequence[CudaDevice], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Numbers are ambiguous where GPUs differ: the driver's order is that of the PCI bus.

    nbllm asks CUDA for that order too, unless the user wants another one.
    """
    if len({device.name for device in devices if not device.is_instance}) < 2:
        return ()
    order = environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if order != "PCI_BUS_ID":
        return (
            f"CUDA_DEVICE_ORDER={order}: nbllm numbers GPUs in PCI bus order, but CUDA may use "
            "another. Set it to PCI_BUS_ID to be sure.",
        )
    value = environ.get("CUDA_VISIBLE_DEVICES", "")
    if "CUDA_DEVICE_ORDER" in environ or not re.match(r"\+?[0-9]", value.strip()):
        return ()
    return (
        f"CUDA_VISIBLE_DEVICES={value} is read in PCI bus order, as nvidia-smi numbers "
        "GPUs. Other programs number the fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID is set.",
    )


def _why_hidden(device: CudaDevice, value: str | None, *, named: bool) -> str:
    if device.is_instance and named:
        wish = f"; to use it, set CUDA_VISIBLE_DEVICES={device.uuid}" if device.uuid else ""
        return f"CUDA shows a process only one MIG instance, or only whole GPUs{wish}"
    return f'hidden by CUDA_VISIBLE_DEVICES="{value}"'


# ---------------------------------------------------------------- ROCm


def choose_rocm_devices(uuids: Sequence[str | None], environ: Mapping[str, str]) -> Choice:
    """What HIP offers: ``ROCR_VISIBLE_DEVICES`` first, then a list of numbers into the rest.

    That list is ``HIP_VISIBLE_DEVICES`` or, where it is not set, ``CUDA_VISIBLE_DEVICES``.
    ``uuids`` are written "GPU-" and 16 digits; None: not known.
    """
    left = list(range(len(uuids)))
    hidden: dict[int, str] = {}
    second = "HIP_VISIBLE_DEVICES"
    if second not in environ:
        second = "CUDA_VISIBLE_DEVICES"
    for variable in ("ROCR_VISIBLE_DEVICES", second):
        value = environ.get(variable)
        if value is None:
            continue
        named = _rocm_entries(value, [uuids[place] for place in left])
        kept = [left[position] for position in named]
        reason = f'hidden by {variable}="{value}"'
        hidden.update({place: reason for place in left if place not in kept})
        left = kept
    return Choice(tuple(left), hidden)


def _rocm_entries(value: str, uuids: Sequence[str | None]) -> list[int]:
    found: list[int] = []
    for entry in (entry.strip() for entry in value.split(",")):
        if re.fullmatch("[0-9]{1,9}", entry) and int(entry) < len(uuids):
            position = int(entry)
        elif entry.startswith("GPU-") and entry in uuids:
            position = uuids.index(entry)
        else:
            break
        if position not in found:
            found.append(position)
    return found
