"""storagectl for tests of pools whose volumes are found, not made."""

from __future__ import annotations

import re
import subprocess

from shell import Shell


class LabShell(Shell):
    """Shell that gives errors whole, and tells what a pool shows."""

    def fails(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.status, done.stdout) == (1, "\n"), (args, done)
        return done.stderr

    def under(self, *argv: str) -> str:
        """Run the installed program below another one, such as strace; its words come last."""
        place = argv.index("storagectl") + 1
        words = [*argv[:place], "--root", self.root, *argv[place:]]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), (argv, done.stdout, done.stderr)
        return done.stdout

    def capacity(self, pool: str) -> int:
        return int(re.findall(r"<capacity.*>(\d+)<", self.ok("pool-dumpxml", pool))[0])
