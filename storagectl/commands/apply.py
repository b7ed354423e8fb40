"""Pools and volumes as files say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.session import exclusive, read_file
from storagectl.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.commands.session import Facts, Session
    from storagectl.model import Pool, Volume
    from storagectl.plan import Plan, Step

CHANGES = 2
# What JSON calls a step, where that is another word: as that of the command that does it.
WORDS = {
    "marked as autostarted": "autostart-marked",
    "unmarked as autostarted": "autostart-unmarked",
    "stopped": "destroyed",
}
# What a definition of a pool has no word in.
SIZES = ("  <capacity ", "  <allocation ", "  <available ")


@command("apply", "Make pools and volumes what files say, and change nothing else.", changes=True)
@value("file", "XML or YAML file, folder of such files, or - for stdin", required=True, rest=True)
@flag("diff", "show what would be changed, and change nothing")
@flag("detailed-exitcode", "with --diff: exit status 2 where something would be changed")
@flag("build", "build what is missing of pools that are not active")
@flag("overwrite", "let pools be built over what is on their devices")
@flag("resize", "let volumes grow to the capacity in the files")
@value(
    "prune",
    "volumes: delete those that the files leave out; pools: stop and undefine those",
    multiple=True,
    named_only=True,
)
@flag("keep-going", "after an error go on with what does not depend on it")
def apply(
    session: Session,
    file: tuple[str, ...],
    diff: bool,
    detailed_exitcode: bool,
    build: bool,
    overwrite: bool,
    resize: bool,
    prune: tuple[str, ...],
    keep_going: bool,
) -> None:
    from storagectl import documents, planning
    from storagectl.plan import POOLS, PRUNABLE, Allowed

    exclusive(diff=diff, keep_going=keep_going)
    exclusive(diff=diff, dry_run=session.dry_run)
    exclusive(keep_going=keep_going, dry_run=session.dry_run)
    if detailed_exitcode and not diff:
        raise ClientError("Option --detailed-exitcode requires --diff")
    for word in prune:
        if word not in PRUNABLE:
            raise ClientError(f"Option --prune takes {' or '.join(PRUNABLE)}, not '{word}'")
    wanted = documents.read(documents.gather(file), load)
    errors = [session.report(error) for error in wanted.errors]
    if errors:
        session.result(Answer(errors=errors).facts)
        raise ClientError("Nothing is changed, for there are errors in the files")
    if POOLS in prune and not wanted.pools:
        raise ClientError("No file has a pool: --prune pools would leave none")
    plan = planning.make(session.pools, wanted, Allowed(build, overwrite, resize, prune))
    answer = Answer(errors=[session.report(error) for error in plan.problems])
    session.result(answer.facts)
    if diff:
        show(session, plan, answer)
        if plan.problems:
            raise ClientError("Not all of it can be done")
        if plan.steps and detailed_exitcode:
            session.settings.failure = CHANGES
            raise click.exceptions.Exit(CHANGES)
    elif plan.problems and not keep_going:
        raise ClientError("Nothing is changed, for not all of it can be done")
    else:
        carry_out(session, plan, answer, keep_going=keep_going)


def load(path: str) -> bytes:
    """Return the content of a file, or of stdin."""
    from storagectl.documents import STDIN

    return sys.stdin.buffer.read() if path == STDIN else read_file(path)


class Answer:
    """What JSON has of a run: filled step by step, so that an interrupted one tells it too."""

    def __init__(self, errors: list[Facts | None]) -> None:
        self.steps: list[Facts] = []
        self.notes: list[str] = []
        self.errors = errors
        self.facts: Facts = {
            "changed": False,
            "steps": self.steps,
            "errors": errors,
            "not_tried": [],
            "notes": self.notes,
        }

    def add(self, step: Step, **more: object) -> None:
        self.steps.append(
            {"did": WORDS.get(step.did, step.did), "pool": step.pool, "volume": step.volume, **more}
        )


def carry_out(session: Session, plan: Plan, answer: Answer, *, keep_going: bool) -> None:
    """Do what a plan says, a line for each step.  Raises: ClientError where not all is done."""
    from storagectl.applying import Runner

    if session.config.confirm and not session.dry_run:
        confirm(plan)
    runner = Runner(session.pools, session.volumes, plan, keep_going=keep_going)
    for step, error in runner.run():
        if error is None:
            answer.add(step)
            answer.facts["changed"] = True
            session.tell(f"{subject(step)} {step.did}{to_size(step)}")
            sys.stdout.flush()
        else:
            answer.errors.append(session.report(error))
    tell_notes(session, plan, answer)
    answer.facts["not_tried"] = runner.skipped
    if runner.failed and session.dry_run:
        raise ClientError("Not all of it can be foreseen")
    made = f"{counted(len(answer.steps))} made"
    if runner.failed or plan.problems:
        skipped = f"; not tried: {', '.join(runner.skipped)}" if runner.skipped else ""
        raise ClientError(f"{made}; not all of it could be done{skipped}")
    session.tell(made if answer.steps else "Nothing to change")


def confirm(plan: Plan) -> None:
    """Ask about what loses data or definitions.  Raises: StorageError where that is not meant."""
    from storagectl.commands.confirm import ask
    from storagectl.plan import BUILT, DELETED, UNDEFINED

    words = {
        DELETED: "vol {0.volume} of pool {0.pool}",
        UNDEFINED: "the definition of pool {0.pool}",
    }
    if plan.allowed.overwrite:
        words[BUILT] = "what is on the device of pool {0.pool}"
    doomed = [words[step.did].format(step) for step in plan.steps if step.did in words]
    if doomed:
        ask("apply", f"Delete {', '.join(doomed)}")


def show(session: Session, plan: Plan, answer: Answer) -> None:
    """Print definitions before and after, and then what would be done in which order."""
    types = {each.name: each.pool.type for each in plan.pools}
    for step in plan.steps:
        lines = "".join(difference(step, types[step.pool] if step.volume else ""))
        answer.add(step, perhaps=step.perhaps, diff=lines or None)
        output.write(lines)
    for step in plan.steps:
        perhaps = ", unless it is so already" if step.perhaps else ""
        output.write(f"{subject(step)} would be {step.did}{to_size(step)}{perhaps}\n")
    tell_notes(session, plan, answer)
    if not plan.steps and not plan.problems:
        session.tell("Nothing would be changed")


def tell_notes(session: Session, plan: Plan, answer: Answer) -> None:
    """Tell on stderr of differences that stay."""
    sys.stdout.flush()
    answer.notes += plan.notes
    for note in plan.notes:
        session.warn(f"warning: {note}")


def counted(count: int) -> str:
    return f"{count} change{'' if count == 1 else 's'}"


def subject(step: Step) -> str:
    if step.volume is None:
        return f"Pool {step.pool}"
    return f"Vol {step.volume} of pool {step.pool}"


def to_size(step: Step) -> str:
    """Return the size that a volume is resized to, and from."""
    from storagectl.plan import RESIZED

    if step.did != RESIZED:
        return ""
    assert step.before is not None
    assert step.after is not None
    return f" from {step.before.capacity} to {step.after.capacity} bytes"


def difference(step: Step, pool_type: str) -> Iterator[str]:
    """Yield the lines of a unified diff of a definition, none where it stays the same."""
    import difflib

    if step.before is None and step.after is None:
        return
    name = f"{step.pool}/{step.volume}" if step.volume is not None else step.pool
    yield from difflib.unified_diff(
        definition(step.before, pool_type),
        definition(step.after, pool_type, hides_uuid=step.new_uuid),
        f"{name}.xml" if step.before is not None else "/dev/null",
        str(step.place) if step.after is not None else "/dev/null",
    )


def definition(
    what: Pool | Volume | None, pool_type: str, *, hides_uuid: bool = False
) -> list[str]:
    """Return the lines of the XML of a pool, or of a volume of a pool of a type."""
    from storagectl.model import Pool
    from storagectl.pooltypes import POOL_TYPES
    from storagectl.poolxml import format_pool
    from storagectl.volxml import format_volume

    if what is None:
        return []
    if isinstance(what, Pool):
        lines = format_pool(what).splitlines(keepends=True)
        left_out = SIZES + (("  <uuid>",) if hides_uuid else ())
        return [line for line in lines if not line.startswith(left_out)]
    return format_volume(what, POOL_TYPES[pool_type]).splitlines(keepends=True)
