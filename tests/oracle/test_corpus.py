"""The corpus of definitions (see corpus.py): virsh's answers and storagectl's, to each document."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import corpus  # noqa: E402  (the folder isn't a package)
import oracle  # noqa: E402

from storagectl.pooltypes import POOL_TYPES  # noqa: E402

DOCUMENTS = 150


@pytest.fixture(scope="module")
def reference() -> tuple[str, list[oracle.Record]]:
    """What virsh answers: live where virsh and libvirtd are installed, else the recording."""
    if os.geteuid() != 0:
        pytest.skip("needs root: volumes of other owners, and a libvirtd in name spaces")
    return corpus.reference()


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.slow
def test_recording_is_what_virsh_answers(reference: tuple[str, list[oracle.Record]]) -> None:
    """The recording has virsh's exit statuses, which a live virsh is not asked for."""
    source, live = reference
    if not source.startswith("live"):
        pytest.skip("virsh and libvirtd aren't installed")
    path = corpus.recording(source.split()[-1])
    if not path.exists():
        pytest.skip(f"no recording of {source}")
    _, recorded = oracle.load(path, corpus.digest())
    assert [one.argv for one in recorded] == [one.argv for one in live]
    differences = [
        oracle.difference(old, new)
        for old, new in zip(recorded, live, strict=True)
        if old.answer() != new.answer()
    ]
    assert not differences, "the recording is stale:\n" + "\n".join(differences)


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.slow
def test_storagectl_answers_like_virsh(reference: tuple[str, list[oracle.Record]]) -> None:
    source, expected = reference
    report = corpus.compare(expected)
    report.source = source
    print(report.text())
    assert report.good, report.text()


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("giver", ["virsh", "storagectl"])
def test_what_one_dumps_is_defined_by_the_other(
    giver: str, reference: tuple[str, list[oracle.Record]]
) -> None:
    """The other dumps it byte for byte, but for documents that the two answer differently."""
    if not reference[0].startswith("live"):
        pytest.skip("virsh and libvirtd aren't installed")
    programs = [corpus.virsh_shell, corpus.ours]
    taken = corpus.exchange(*(programs if giver == "virsh" else reversed(programs)))
    differing = [one for one in taken if one.dump != one.again]
    print(f"{giver} dumped {len(taken)}: {len(taken) - len(differing)} are dumped the same")
    assert len(taken) - len(differing) > 2 * DOCUMENTS
    assert {one.document.partition("/")[0] for one in taken} > {"dir", corpus.VOLUMES}
    entries = oracle.load_intended(corpus.INTENDED)
    for one in differing:
        define = "vol-create" if one.document.startswith(corpus.VOLUMES) else "pool-define"
        record = oracle.Record(0, 0, "command", "", [define, one.document], 0, "", "")
        assert any(entry.covers(record) for entry in entries), one


def test_recordings_are_of_these_documents() -> None:
    paths = sorted(corpus.FOLDER.glob("recorded-virsh-*.jsonl"))
    assert paths
    for path in paths:
        version, _ = oracle.load(path, corpus.digest())
        assert path == corpus.recording(version)


def test_the_corpus_is_large_enough() -> None:
    documents = corpus.documents()
    assert len({(one.group, one.name) for one in documents}) == len(documents) >= DOCUMENTS
    served = {name for name, row in POOL_TYPES.items() if row.module}
    assert served | {corpus.VOLUMES} <= {one.group for one in documents}


def test_most_documents_are_accepted_and_many_refused() -> None:
    """An oracle that could not define anything would find no difference either."""
    _, records = oracle.load(corpus.recording("9.0.0"), corpus.digest())
    plain = [one for one in records if "--validate" not in one.argv]
    accepted = [one for one in plain if one.status == 0]
    assert len(accepted) > DOCUMENTS
    assert len(plain) - len(accepted) > DOCUMENTS
    assert sum("</pool>" in one.stdout or "</volume>" in one.stdout for one in accepted) > DOCUMENTS


def test_validate_of_volumes_is_compared_as_if_it_worked() -> None:
    def record(status: int, stdout: str, stderr: str) -> oracle.Record:
        return oracle.Record(1, 0, "command", "", ["vol-create"], status, stdout, stderr)

    broken = record(1, "\n", f"error: Failed to create vol from x\n{corpus.VALIDATE_BUG}\n")
    done = record(0, "Vol v created from x\n\n<volume/>\n", "")
    refused = record(1, "\n", "error: other\n")
    found = corpus.repaired([broken, done, broken, refused, refused])
    assert [one.answer() for one in found] == [
        (0, "Vol v created from x\n\n", ""),
        done.answer(),
        *[refused.answer()] * 3,
    ]
