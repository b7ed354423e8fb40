"""Moving in: the pools that libvirt has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.commands.command import command, value
from storagectl.errors import ClientError

if TYPE_CHECKING:
    from storagectl.commands.session import Facts, Session


@command(
    "import", "Take over the definitions of libvirt's pools, which stay as they are.", changes=True
)
@value("folder", "where the definitions are (default: where libvirt has them)")
def import_(session: Session, folder: str | None) -> None:
    from storagectl import importing

    words = {
        importing.IMPORTED: "imported",
        importing.AUTOSTARTED: "imported-autostarted",
        importing.UNCHANGED: "unchanged",
        importing.KEPT: "kept",
        importing.TRANSIENT: "transient",
    }
    if folder is None:
        folders = importing.SYSTEM if session.system else importing.of_user()
    elif os.path.isdir(folder):
        # of another machine, so nothing of it runs here
        folders = importing.Folders(folder, "")
    else:
        raise ClientError(f"'{folder}' is not a directory")
    outcomes: list[Facts] = []
    failed = []
    for result in importing.import_pools(session.pools, folders):
        outcome: Facts = {
            "name": result.name,
            "outcome": words.get(result.outcome),
            "active": result.active,
            "error": None,
        }
        outcomes.append(outcome)
        if result.error is not None:
            failed.append(result.name)
            result.error.action = f"Failed to import pool '{result.name}'"
            outcome["error"] = session.report(result.error)
            continue
        active = "; libvirt has it active" if result.active else ""
        session.tell(f"Pool {result.name} {result.outcome}{active}")
    if not outcomes:
        session.tell(f"There is no pool in {folders.definitions}")
    session.result({"folder": folders.definitions, "pools": outcomes})
    if failed:
        session.states_plan = True
        raise ClientError(
            f"{len(failed)} of {len(outcomes)} pools not imported: {', '.join(failed)}"
        )
