"""storagectl against virsh: the jobs, every answer compared (see oracle.py)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import oracle  # noqa: E402  (the folder isn't a package)

TOOLS = ("unshare", "losetup", "wipefs", "blkid", "parted", "mkfs.ext4", "mkfs.xfs", "mkfs.vfat")
TOOLS += ("qemu-img", "scrub", "vgcreate")


LEAST = {"main": 150, "scripts": 30, "artefacts": 25, "events": 25}


@pytest.fixture(scope="module", params=oracle.JOBS)
def job(request: pytest.FixtureRequest) -> oracle.Job:
    return oracle.JOBS[request.param]


@pytest.fixture(scope="module")
def reference(job: oracle.Job) -> tuple[str, list[oracle.Record]]:
    """What virsh answers: live where virsh and libvirtd are installed, else the recording."""
    needs_a_root_machine()
    return oracle.reference(job)


def needs_a_root_machine() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: loop devices, mounts and name spaces")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {' '.join(missing)}")
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("no /dev/loop-control")


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.slow
def test_recording_is_what_virsh_answers(
    job: oracle.Job, reference: tuple[str, list[oracle.Record]]
) -> None:
    source, records = reference
    if not source.startswith("live"):
        pytest.skip("virsh and libvirtd aren't installed")
    version = source.split()[-1]
    differences = oracle.recording_differences(version, records, job)
    assert not differences, "the recording is stale:\n" + "\n".join(differences)


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.slow
def test_storagectl_answers_like_virsh(
    job: oracle.Job, reference: tuple[str, list[oracle.Record]]
) -> None:
    source, expected = reference
    program = [sys.executable, "-m", "storagectl", "--root", "{state}"]
    actual = oracle.run_normalised(program, job)
    report = oracle.compare(expected, actual, oracle.load_intended(job.intended))
    report.source = source
    print(report.text())
    assert report.good, report.text()


def record(n: int = 1, **given: object) -> oracle.Record:
    base = {"line": n, "kind": "command", "label": "", "argv": ["pool-list"], "status": 0}
    return oracle.Record(n=n, **{**base, "stdout": "", "stderr": "", **given})


def test_recordings_are_of_this_script(job: oracle.Job) -> None:
    for path in job.recordings():
        version, records = oracle.load(path, job.digest())
        assert path == job.recording(version)
        assert [one.n for one in records] == list(range(1, len(records) + 1))


@pytest.mark.parametrize("name", oracle.JOBS)
def test_a_job_is_large_enough(name: str) -> None:
    job = oracle.JOBS[name]
    _, records = oracle.load(job.recordings()[-1], job.digest())
    assert sum(one.kind != "state" or name == "scripts" for one in records) >= LEAST[name]


def test_compare_counts_same_intended_and_open() -> None:
    expected = [record(1), record(2, argv=["vol-list", "x"]), record(3, stdout="a\n")]
    actual = [record(1), record(2, argv=["vol-list", "x"], status=1), record(3, stdout="b\n")]
    entry = oracle.Intended(reason="a test", match="^vol-list", status=1)
    report = oracle.compare(expected, actual, [entry])
    assert (report.same, len(report.intended), len(report.open), report.stale) == (1, 1, 1, [])
    assert "-a" in report.text()
    assert "+b" in report.text()


def test_an_intended_difference_is_pinned() -> None:
    entry = oracle.Intended(reason="a test", match="pool-list", stdout="mine\n")
    report = oracle.compare([record()], [record(stdout="other\n")], [entry])
    assert len(report.open) == 1
    report = oracle.compare([record()], [record(stdout="mine\n", status=1)], [entry])
    assert len(report.open) == 1
    report = oracle.compare([record()], [record(stdout="mine\n")], [entry])
    assert report.good


def test_an_entry_nothing_needs_is_stale() -> None:
    entry = oracle.Intended(reason="a test", match="pool-list", stdout="mine\n")
    report = oracle.compare([record()], [record()], [entry])
    assert report.stale == ["pool-list: a test"]
    assert not report.good


def test_normalise_hides_only_what_varies() -> None:
    uuid = "0b1c2d3e-1111-4222-8333-123456789abc"
    fixed = "11111111-1111-4111-8111-000000000001"
    text = f"{uuid} {fixed} <mtime>1732372345.123456789</mtime><btime>0</btime> 1048576\n"
    cleaned = oracle.normalise(record(stdout=text)).stdout
    assert cleaned == f"<uuid> {fixed} <mtime>T</mtime><btime>0</btime> 1048576\n"
    assert oracle.normalise(record(stdout="(Time: 1.234 ms)\n")).stdout == "(Time: T ms)\n"


def test_a_draft_entry_can_be_read_back(tmp_path: Path) -> None:
    expected = record(argv=["vol-info", "a b"], stdout="x\n")
    actual = record(argv=["vol-info", "a b"], stdout='"y"\\\n\n', status=1)
    draft = oracle.as_entry(expected, actual).replace('reason = ""', 'reason = "a test"')
    path = tmp_path / "intended.toml"
    path.write_text(draft)
    assert oracle.compare([expected], [actual], oracle.load_intended(path)).good
