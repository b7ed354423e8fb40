"""The bench runs: its short form, whose table and JSON are looked at, and no time is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
GROUPS = ("cold", "warm", "big", "huge", "many", "slow", "data")

sys.path.append(str(BENCH))

from figures import CEILING, MISSED, OK, UNJUDGED, Figure, Way  # noqa: E402
from run import BEGIN, END, README, lines, markdown  # noqa: E402

ABOUT = {
    "virsh": "9.0.0", "python": "3.11.2", "click": "8.1.8", "qemu-img": "7.2", "kernel": "6.1",
    "processor": "one", "cores": 2, "file system": "ext4", "start": {"Python": 0.01, "click": 0.03},
}  # fmt: skip


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.slow
def test_the_short_form_makes_the_table_and_the_document(tmp_path: Path) -> None:
    for tool in ("virsh", "libvirtd", "qemu-img", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            pytest.skip(f"not installed: {tool}")
    beside = os.path.dirname(sys.executable)
    if shutil.which("storagectl", path=beside) is None:
        pytest.skip("storagectl is not installed beside this Python")
    document = tmp_path / "bench.json"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), "--short", "--json", str(document),
         "--scratch", str(scratch)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # the report of CI
    found = json.loads(document.read_text())
    assert found["virsh"]
    assert {row["group"] for row in found["rows"]} == set(GROUPS)
    for row in found["rows"]:
        assert f"{row['group']}: {row['what']}" in done.stdout
        assert set(row["ratios"]) == set(row["seconds"]) - {row["ours"]}
        assert all(seconds > 0 for times in row["seconds"].values() for seconds in times)
        assert set(row["goals"]) <= set(row["ratios"])
        assert set(row["verdicts"].values()) <= {UNJUDGED}
    assert list(scratch.iterdir()) == []


def measured(**settings: object) -> Figure:
    figure = Figure(
        "cold", "pool-list", {"storagectl": Way([]), "virsh": Way([])}, {"virsh": 1.0},
        {"virsh": 2.5}, floor="Python", **settings,
    )  # type: ignore[arg-type]  # fmt: skip
    figure.seconds = {"storagectl": [0.04, 0.06, 0.05], "virsh": [0.02, 0.02, 0.02]}
    figure.peaks_kib = {"storagectl": 20480, "virsh": 10240}
    return figure


def test_a_ratio_is_that_of_each_round() -> None:
    spread = measured().ratios()["virsh"]
    assert [round(number, 6) for number in spread] == [2.0, 2.5, 3.0]


@pytest.mark.parametrize(
    ("goal", "ceiling", "verdict"),
    [(2.5, 2.5, OK), (1.0, 2.5, CEILING), (1.0, 2.4, MISSED), (1.0, None, MISSED)],
)
def test_a_goal_is_met_by_the_median(goal: float, ceiling: float | None, verdict: str) -> None:
    figure = measured()
    figure.goals = {"virsh": goal}
    figure.ceilings = {} if ceiling is None else {"virsh": ceiling}
    assert figure.verdicts() == {"virsh": verdict}


def test_limits_are_in_seconds_and_mib() -> None:
    verdicts = measured(limit_s=0.05, limit_mib=19).verdicts()
    assert (verdicts["seconds"], verdicts["MiB"]) == (OK, MISSED)


def test_the_tables_have_every_way_and_where_the_time_goes() -> None:
    figure = measured(limit_mib=60)
    figure.instructions = {"storagectl": 123_400_000, "virsh": 1_000_000}
    text = "\n".join(lines([figure]))
    assert "2.000 / 2.500 / 3.000" in text
    assert "million instructions: storagectl 123.4, virsh 1.0" in text
    table = list(markdown(ABOUT, [figure]))
    assert "Python starts in 10 ms, and has imported click after 30 ms" in table[0]
    row = "| `pool-list` | 3 | 50 ms | virsh | 20 ms | 2.00 / 2.50 / 3.00 | 1 | below the ceiling |"
    assert row in table
    assert "| `pool-list` | 3 | 50 ms | - | - | - | 60 MiB | ok, 20 |" in table
    assert "- `pool-list`: storagectl 123, virsh 1." in table
    assert table[-1] == "- `pool-list`: Python."


def test_the_readme_has_room_for_the_table() -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    assert before
    assert END in rest
