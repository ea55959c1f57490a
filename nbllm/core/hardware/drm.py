"""Graphics cards as Linux lists them under ``/sys/class/drm``, whatever their driver.

Sources: the kernel's ``gpu/amdgpu/driver-misc.rst`` and ``hwmon/sysfs-interface.rst``;
``pci.ids`` and libdrm's ``amdgpu.ids`` for the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DrmCard", "cards_of", "number_in", "product_name", "text_in"]

_PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/pci.ids")
_AMD_IDS = "usr/share/libdrm/amdgpu.ids"


@dataclass(frozen=True, slots=True)
class DrmCard:
    """A card: ``device`` is its folder, ``pci_bus_id`` such as "0000:03:00.0".

    ``vendor_id`` and ``device_id`` are PCI's, four hexadecimal digits each, in lower case.
    """

    device: Path
    driver: str
    vendor_id: str
    device_id: str
    pci_bus_id: str

    def number(self, file: str) -> int | None:
        """The number in a file of the card's; None where there is none."""
        return number_in(self.device / file)

    def sensor(self, *files: str) -> int | None:
        """The first of these files that a hardware monitor of the card's has."""
        for monitor in sorted(self.device.glob("hwmon/hwmon*")):
            for file in files:
                if (value := number_in(monitor / file)) is not None:
                    return value
        return None

    @property
    def temperature_celsius(self) -> float | None:
        """Of the chip's edge, or of what the driver calls its first sensor."""
        value = self.sensor("temp1_input")
        return None if value is None else value / 1e3

    @property
    def power_watts(self) -> float | None:
        """Averaged by the card or, where it does not, of the moment."""
        value = self.sensor("power1_average", "power1_input")
        return None if value is None else value / 1e6

    @property
    def power_limit_watts(self) -> float | None:
        """What the driver allows it."""
        value = self.sensor("power1_cap")
        return None if value is None else value / 1e6


def cards_of(root: Path) -> Iterator[DrmCard]:
    """The cards on the PCI bus, in the order of the bus."""
    found: list[DrmCard] = []
    for folder in (root / "sys/class/drm").glob("card*"):
        if re.fullmatch(r"card\d+", folder.name):
            event = text_in(folder / "device/uevent") or ""
            facts = dict(line.split("=", 1) for line in event.splitlines() if "=" in line)
            vendor_id, _, device_id = facts.get("PCI_ID", "").lower().partition(":")
            bus = facts.get("PCI_SLOT_NAME", "")
            if device_id and bus:
                driver = facts.get("DRIVER", "")
                found.append(DrmCard(folder / "device", driver, vendor_id, device_id, bus))
    return iter(sorted(found, key=lambda card: card.pci_bus_id))


def product_name(root: Path, card: DrmCard) -> str | None:
    """What the card is sold as, from the card itself or the system's lists of names."""
    return (
        text_in(card.device / "product_name")
        or _name_in_amdgpu_ids(root, card)
        or _name_in_pci_ids(root, card)
    )


def _name_in_amdgpu_ids(root: Path, card: DrmCard) -> str | None:
    revision = (text_in(card.device / "revision") or "").removeprefix("0x")
    wanted = (card.device_id, revision.lower().zfill(2))
    for line in (text_in(root / _AMD_IDS) or "").splitlines():
        device, _, rest = line.partition(",")
        its_revision, _, name = rest.partition(",")
        if card.vendor_id == "1002" and wanted == (
            device.strip().lower(),
            its_revision.strip().lower(),
        ):
            return name.strip() or None
    return None


def _name_in_pci_ids(root: Path, card: DrmCard) -> str | None:
    text = next(filter(None, (text_in(root / file) for file in _PCI_IDS)), "")
    vendor = re.search(rf"^{re.escape(card.vendor_id)}  .*\n((?:[\t#].*\n?)*)", text, re.MULTILINE)
    if vendor is None:
        return None
    name = re.search(rf"^\t{re.escape(card.device_id)}  (.+)$", vendor[1], re.MULTILINE)
    if name is None:
        return None
    brackets = re.search(r"\[(.+)\]\s*$", name[1])  # the name on the box is in brackets
    return (brackets or name)[1].strip()


def number_in(file: Path) -> int | None:
    """A decimal number that is all a file holds."""
    text = text_in(file)
    return int(text) if text is not None and re.fullmatch("[0-9]{1,20}", text) else None


def text_in(file: Path) -> str | None:
    """A file's text without white space around it; None where it is empty or cannot be read."""
    try:
        return file.read_text(errors="replace").strip() or None
    except OSError:
        return None
