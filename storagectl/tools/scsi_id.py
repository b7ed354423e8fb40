"""scsi_id of udev: the serial of a SCSI disk.

Source: scsi_id(8) of systemd 252.
"""

from __future__ import annotations

import os

# it is not on any path
PLACES = ("/lib/udev/scsi_id", "/usr/lib/udev/scsi_id")


def serial(node: str, *, export: bool) -> list[str]:
    """Ask for the serial; with `export` for all that is known, as properties."""
    program = next((place for place in PLACES if os.path.exists(place)), PLACES[0])
    words = ["--export"] if export else []
    return [program, "--replace-whitespace", "--whitelisted", *words, "--device", node]


def parse_serial(text: str, *, export: bool) -> str:
    """Return the serial, empty where there is none; exported ones with their target's port.

    360000000000000000e00000000010001

    ID_SCSI=1
    ID_SERIAL=360000000000000000e00000000010001
    ID_TARGET_PORT=1

    Source: libvirt 9.0.0 virStorageFileGetNPIVKey in src/util/virfile.c.
    """
    if not export:
        return text.partition("\n")[0]
    properties = dict(line.partition("=")[::2] for line in text.splitlines())
    port = properties.get("ID_TARGET_PORT")
    found = properties.get("ID_SERIAL", "")
    return f"{found}_PORT{port}" if found and port else found
