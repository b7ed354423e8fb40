"""--dry-run: nothing is changed, and the script that is printed does what the command does."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from xml.sax.saxutils import quoteattr

import jsonschema
import pytest
from changing import (
    CASES,
    DATA,
    LUKS,
    OTHER_UUID,
    POOL,
    RAW,
    SECRET,
    SECRET_UUID,
    SECRETS,
    SPARSE,
    UUID,
    Case,
    Place,
    changing,
    make_editor,
    secret,
)
from inprocess import storagectl

from storagectl.commands import COMMANDS, find

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img"),
]

READING = {
    "cd", "connect", "echo", "exit", "find-storage-pool-sources", "find-storage-pool-sources-as",
    "help", "pool-capabilities", "pool-dumpxml", "pool-event", "pool-exists", "pool-info",
    "pool-list", "pool-name", "pool-used-by", "pool-uuid", "pwd", "quit", "secret-dumpxml",
    "secret-get-value", "secret-list", "uri", "vol-dumpxml", "vol-exists", "vol-info", "vol-key",
    "vol-list", "vol-name", "vol-path", "vol-pool", "vol-used-by", "status", "doctor",
}  # fmt: skip

SOURCES = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((SOURCES / "storagectl/schemas/output-1.json").read_text())


def bash(script: str, value: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script as it would be pasted, with a secret on descriptor 9 if there is one."""
    words = ["bash", "-c", script]
    if value is not None:
        words = ["bash", "-c", f"exec 9<{shlex.quote(str(value))}; {script}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    # what the script tries again
    said = re.sub(r"qemu-img: .*: Unable to get accurate CPU usage\n", "", done.stderr)
    assert said == "", (script, done.stderr)
    return done


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("VISUAL", make_editor(tmp_path))
    return Place(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}-{len(case.before)}")
def test_dry_run_changes_nothing_and_its_script_does_the_same(place: Place, case: Case) -> None:
    place.anew(case)
    before = place.picture(times=True)
    planned = place.run(case.command, "--dry-run")
    assert (planned.status, planned.stderr) == (0, "")
    assert place.picture(times=True) == before
    assert SECRET not in planned.stdout
    name = case.command.split()[0]
    assert f"What {name} would do" in planned.stdout or "would change nothing" in planned.stdout
    # the option before the command, which makes the same script but for random names
    other = storagectl(place.root, "--dry-run", *map(place.meant, shlex.split(case.command)))
    assert neutral(other.stdout) == neutral(planned.stdout)

    done = bash(planned.stdout, place.folder / "value" if case.secret else None)
    assert done.returncode == 0
    by_script = place.picture(times=False)

    place.anew(case)
    assert place.run(case.command).status == 0
    assert place.picture(times=False) == by_script


def neutral(script: str) -> str:
    """Return a script without what is random in it."""
    return re.sub(r"storagectl-[0-9a-f]{16}", "storagectl-RANDOM", UUID.sub("UUID", script))


def test_each_command_either_only_reads_or_is_tried_here() -> None:
    assert not changing() & READING
    assert set(COMMANDS) <= changing() | READING
    assert {case.command.split()[0] for case in CASES} == changing()


@pytest.mark.parametrize("name", sorted(READING & set(COMMANDS)))
def test_a_command_that_only_reads_has_no_dry_run(tmp_path: Path, name: str) -> None:
    refusal = f"error: command '{name}' doesn't support option --dry-run\n"
    words = {"exit": "exit", "quit": "quit"}.get(name, f"{name} x y z")
    given = shlex.split(words)[: 1 + required(name)]
    done = storagectl(tmp_path, "--dry-run", *given)
    assert (done.status, done.stderr) == (1, refusal) or name == "help"
    if name not in ("echo", "help"):
        done = storagectl(tmp_path, name, "--dry-run")
        assert (done.status, done.stderr) == (1, refusal)
    assert list(tmp_path.iterdir()) == []


def required(name: str) -> int:
    command = find(name)
    assert command is not None
    return sum(param.required for param in command.params)


REFUSED = [
    ("pool-start nope", ()),
    ("pool-start p", POOL[:1]),
    ("pool-start p", POOL),
    ("pool-build p --overwrite", POOL[:1]),
    ("pool-delete p", POOL),
    ("pool-delete p", (*RAW, "pool-destroy p")),
    ("pool-undefine p", POOL),
    ("pool-define-as q dir --target POOL", POOL),
    ("pool-create FILE", ()),
    ("pool-build q", ("pool-define-as q dir --target DATA",)),
    ("pool-build q", ("pool-define-as q dir --target DATA/below",)),
    ("pool-start q", ("pool-define-as q fs --source-dev /dev/nosuch --target POOL",)),
    ("vol-create-as p a.img 1M", RAW),
    ("vol-create-as p a.img 9999P", POOL),
    ("vol-create-as p a 8M --format qcow2 --prealloc-metadata --backing-vol b", POOL),
    ("vol-delete b.img p", RAW),
    ("vol-rename a.img a.img p", RAW),
    ("vol-resize a.img 1M p", RAW),
    ("vol-resize a.img 9999P p --allocate", SPARSE),
    ("vol-upload a.img DATA p --offset 3M", RAW),
    ("vol-upload a.img NOFILE p", RAW),
    ("vol-clone a.img a.img p", RAW),
    ("vol-download a.img POOL/no/such p", RAW),
    ("vol-download a.img POOL p", RAW),
    ("vol-create p LUKS", (*POOL, *SECRETS)),
    ("secret-define FILE", ()),
    ("secret-set-value VALUED", SECRETS),
]


@pytest.mark.parametrize(("words", "before"), REFUSED)
def test_what_is_refused_is_refused_alike(
    place: Place, words: str, before: tuple[str, ...]
) -> None:
    case = Case(words, before)
    place.anew(case)
    unchanged = place.picture(times=True)
    planned = place.run(words, "--dry-run")
    assert place.picture(times=True) == unchanged
    assert (planned.status, planned.stdout) == (1, "")
    done = place.run(words)
    assert done.status == 1
    assert planned.stderr == done.stderr


def test_import_plans_what_it_can(place: Place) -> None:
    place.anew(Case("import"))
    (place.folder / "libvirt/bad.xml").write_text("<pool>")
    planned = place.run("import --folder LIBVIRT", "--dry-run")
    assert planned.status == 1
    assert "1 of 3 pools not imported: bad" in planned.stderr
    assert bash(planned.stdout).returncode == 0
    assert place.run("pool-info one").status == 0
    assert place.run("import --folder LIBVIRT", "--dry-run").stdout == (
        "# import would change nothing.\n"
    )


def test_a_secret_has_to_come_on_a_descriptor(place: Place) -> None:
    case = Case("vol-create p LUKS", LUKS[:-1])
    place.anew(case)
    script = place.run(case.command, "--dry-run").stdout
    assert "/proc/self/fd/9" in script
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, close_fds=True
    )
    assert done.returncode == 1
    assert "give the passphrase of volume l.img on descriptor 9" in done.stderr
    assert not (place.folder / "pool-p/l.img").exists()


def test_a_clone_between_encrypted_volumes_takes_two_secrets(place: Place) -> None:
    place.anew(Case("", LUKS))
    script = place.run("vol-create-from p VOLUME l.img p", "--dry-run")
    assert script.status == 1  # nobody said which secret opens it
    text = (place.folder / "luks.xml").read_text().replace("l.img", "m.img")
    (place.folder / "luks.xml").write_text(text)
    (place.folder / "secret.xml").write_text(
        secret("no")
        .replace(SECRET_UUID, OTHER_UUID)
        .replace(">/v<", f">{place.folder}/pool-p/l.img<")
    )
    for words in ("secret-define SECRET", f"secret-set-value {OTHER_UUID} --file VALUE --plain"):
        assert place.run(words).status == 0
    planned = place.run("vol-create-from p LUKS l.img p", "--dry-run")
    assert planned.status == 0, planned
    assert SECRET not in planned.stdout
    assert "on descriptor 9" in planned.stdout
    assert "on descriptor 8" in planned.stdout
    value = shlex.quote(str(place.folder / "value"))
    assert bash(f"exec 9<{value} 8<{value}\n{planned.stdout}").returncode == 0
    assert place.run("vol-info m.img p").status == 0


@pytest.mark.parametrize("size", [0, 100, 300_000, 3 << 20])
def test_an_upload_from_stdin_is_fed_to_the_script(place: Place, size: int) -> None:
    place.anew(Case("", (*RAW, "vol-upload a.img DATA p")))
    script = place.folder / "script"
    script.write_text(place.run("vol-upload a.img - p", "--dry-run").stdout)
    data = b"x" * size
    subprocess.run(["bash", str(script)], input=data, check=True)
    whole = (DATA + bytes(3 << 20))[: 3 << 20]
    volume = place.folder / "pool-p/a.img"
    assert volume.read_bytes() == data + whole[size:]
    script.write_text(place.run("vol-upload a.img - p", "--dry-run").stdout)
    done = subprocess.run(["bash", str(script)], input=b"x" * (3 << 20) + b"x", check=False)
    assert done.returncode == 1
    assert volume.read_bytes() == data + whole[size:]


def test_the_script_stops_where_something_has_come_in_between(place: Place) -> None:
    place.anew(Case("", POOL))
    script = place.run("vol-create-as p a.img 1M", "--dry-run").stdout
    (place.folder / "pool-p/a.img").write_text("somebody's")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("/pool-p/a.img is there by now\n")
    assert (place.folder / "pool-p/a.img").read_text() == "somebody's"


def test_a_shell_that_it_is_pasted_into_survives_a_failure(place: Place) -> None:
    place.anew(Case("", POOL[:1]))
    script = place.run("pool-build p", "--dry-run").stdout
    (place.folder / "pool-p").write_text("in the way")
    done = subprocess.run(
        ["bash"], input=f"{script}echo still here\n", capture_output=True, text=True, check=False
    )
    assert done.stdout == "still here\n"


def test_commands_of_one_line_count_on_each_other(place: Place) -> None:
    place.anew(Case(""))
    folder = re.sub("[ \"']", r"\\\g<0>", f"{place.folder}/pool-p")
    line = (
        f"pool-define-as p dir --target {folder}; vol-list p; pool-start p; pool-build p;"
        " pool-start p; vol-create-as p a 1M; vol-create-as p a 2M; pool-autostart p"
    )
    before = place.picture(times=True)
    done = storagectl(place.root, "--dry-run", line)
    assert place.picture(times=True) == before
    assert done.stdout.count("#!/bin/bash") == 5
    words = re.findall(r"^error: (.*)$", done.stderr, re.M)
    assert [word.partition(":")[0] for word in words] == [
        "command 'vol-list' doesn't support option --dry-run",
        "Failed to start pool p", f"cannot open directory '{place.folder}/pool-p'",
        "Failed to create vol a", "Requested operation is not valid",
    ]  # fmt: skip
    assert bash(done.stdout).returncode == 0
    assert place.run("vol-info a p").stdout.count("1.00 MiB") == 2


def test_json_has_the_script(place: Place) -> None:
    place.anew(Case("", RAW))
    document = json.loads(place.run("vol-delete a.img p", "--dry-run", "--json").stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["ok"] is True
    assert document["result"]["did"] == "nothing"
    assert "rm --force -- " in document["result"]["script"]
    refused = json.loads(place.run("vol-delete b.img p", "--dry-run", "--json").stdout)
    assert refused["ok"] is False
    assert refused["result"] is None


def test_a_document_is_no_script(place: Place) -> None:
    done = storagectl(
        place.root, "pool-define-as", "p", "dir", "--target", "/x", "--print-xml", "--dry-run"
    )
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr == "error: Options --print-xml and --dry-run are mutually exclusive\n"


def test_readonly_refuses_a_dry_run(place: Place) -> None:
    place.anew(Case("", RAW))
    done = storagectl(place.root, "--readonly", "vol-delete", "a.img", "p", "--dry-run")
    assert (done.status, done.stdout) == (1, "")
    assert "read only access prevents virStorageVolDelete" in done.stderr


@pytest.mark.skipif(not os.path.exists("/sbin/mkfs.ext4"), reason="needs mkfs.ext4")
def test_apply_can_plan_no_volumes_of_what_is_not_mounted_yet(place: Place) -> None:
    place.anew(Case("apply"))
    disk = place.folder / "disk"
    disk.write_bytes(bytes(1 << 20))
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", str(disk)], check=True)
    (place.folder / "f.xml").write_text(
        f"<pool type='fs'><name>f</name><source><device path={quoteattr(str(disk))}/></source>"
        f"<target><path>{place.folder}/libvirt</path></target><volumes><volume><name>a</name><capacity>1"
        "</capacity></volume></volumes></pool>"
    )
    before = place.picture(times=True)
    done = storagectl(place.root, "apply", "--dry-run", str(place.folder / "f.xml"), hints=True)
    assert (done.status, done.stdout) == (1, "")
    assert "what a pool of type 'fs' has is not known before it runs\n" in done.stderr
    assert "hint: apply --diff shows as much as can be known\n" in done.stderr
    assert done.stderr.endswith("error: Not all of it can be foreseen\n")
    assert place.picture(times=True) == before
    for option in ("--diff", "--keep-going"):
        done = storagectl(place.root, "apply", "--dry-run", option, str(place.folder / "f.xml"))
        assert done.stderr == (f"error: Options {option} and --dry-run are mutually exclusive\n")


def test_a_dry_run_waits_for_who_changes_the_pool(place: Place) -> None:
    """It takes locks that are there, and makes none."""
    place.anew(Case("", POOL))
    locks = place.root / "run/storagectl/lock"
    shutil.rmtree(locks)
    assert place.run("pool-destroy p", "--dry-run").status == 0
    assert not locks.exists()


def test_verbose_shows_commands_of_the_host(place: Place) -> None:
    place.anew(Case("", LUKS))
    done = place.run("vol-create-as p 'a b.qcow2' 1M --format qcow2", "--verbose")
    assert done.status == 0
    assert re.fullmatch(r"\+ \S+/qemu-img create -f qcow2 -o compat=0\.10 \S.*\n", done.stderr)
    assert done.stdout == "Vol a b.qcow2 created\n\n"
    (line,) = done.stderr.splitlines()
    assert shlex.split(line)[-1] == "1024K"
    assert storagectl(place.root, "--verbose", "vol-list", "p").stderr == ""
    before = storagectl(place.root, "--verbose", "vol-clone", "a b.qcow2", "c", "p")
    assert before.stderr.startswith("+ ")
    assert "qemu-img convert" in before.stderr


def test_verbose_shows_no_secret(place: Place) -> None:
    place.anew(Case("", LUKS[:-1]))
    done = place.run("vol-create p LUKS", "--verbose")
    assert done.status == 0
    assert "secret,id=key,file=/proc/self/fd/" in done.stderr
    assert SECRET not in done.stderr
