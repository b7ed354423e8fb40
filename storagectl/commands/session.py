"""What every command works with: the machine, the pools, and how much to say."""

from __future__ import annotations

import contextlib
import sys
from functools import cached_property
from typing import TYPE_CHECKING

import click

from storagectl.commands import output
from storagectl.commands.connection import effective, from_environment, serves_system
from storagectl.config import Config, load
from storagectl.errors import ClientError, StorageError, UsageError
from storagectl.host import Host
from storagectl.pools import Pools
from storagectl.store import Store, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from storagectl.commands.document import Document
    from storagectl.host.plan import Planner
    from storagectl.volumes import Found, Volumes

    Facts = dict[str, object]


class Settings:
    """How the program was called.  In the shell, `connect` and `quit` change it."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.uri: str | None = None
        self.readonly = False
        self.quiet = False
        self.timing = False
        self.json = False
        self.dry_run = False
        self.verbose = False
        self.planner: Planner | None = None
        self.interactive = False
        self.ended = False
        self.swept: dict[str, float] = {}  # as `Host` has it
        self.failure = 1  # the exit status of a command that does not succeed
        self.config: Config | None = None  # as just read, for the command that runs next

    @property
    def connected_to(self) -> str:
        return effective(self.uri or self.environment_uri)

    @cached_property
    def environment_uri(self) -> str | None:
        return from_environment()

    @property
    def whose(self) -> list[str]:
        """The options that say whose pools are meant."""
        given = {"--root": self.root, "--connect": self.uri}
        return [word for name, text in given.items() if text for word in (name, text)]


class Session:
    """One run of one command; the next one looks at the machine anew."""

    def __init__(
        self,
        settings: Settings,
        *,
        json: bool = False,
        dry_run: bool = False,
        verbose: bool = False,
    ) -> None:
        self.settings = settings
        self.quiet = settings.quiet
        self.json = json
        self.dry_run = dry_run
        self.verbose = verbose
        self.has_data_on_stdout = False
        self.document: Document | None = None
        self.config = Config()
        self.planner: Planner | None = None
        # whether what was planned counts although the command fails
        self.states_plan = False

    def begin(self, command: str | None) -> None:
        """Print nothing from now on but a JSON document or a plan in the end, where asked for."""
        self.command = command or ""
        if self.dry_run:
            output.kept = []
        if self.json:
            from storagectl.commands.document import Document

            self.document = Document(command)

    def connect(self) -> None:
        """Find the folders of the pools, and what the user has configured.

        Raises: StorageError for a URI that is not served, and for a configuration that is wrong.
        """
        settings = self.settings
        self.system = serves_system(settings.connected_to)
        self.config = settings.config or load(settings.root, system=self.system)
        self._open_log()
        self.host = self._planner() if self.dry_run else Host(*self._host_settings())
        self.host.warn = warn
        self.host.swept = settings.swept
        if self.verbose:
            self.host.heed = output.echo
        store = Store(self.host, settings.root, system=self.system, readonly=settings.readonly)
        self.pools = Pools(store, self.host)

    def _host_settings(self) -> tuple[Mapping[str, float], Sequence[str]]:
        return self.config.time_limits, self.config.tool_path

    def _planner(self) -> Planner:
        """Return the host that plans all commands of a line, each by a script of its own."""
        from storagectl.host.plan import Planner

        self.planner = self.settings.planner = self.settings.planner or Planner(
            *self._host_settings()
        )
        self.planner.anew()
        return self.planner

    @property
    def touched(self) -> list[str]:
        """The names of the pools that were to be changed or worked on."""
        return sorted(self.pools.store.touched) if hasattr(self, "pools") else []

    def _open_log(self) -> None:
        """Log to the file that the configuration names, where no option names another."""
        if self.config.log is None or output.log_path is not None:
            return
        try:
            output.open_log(self.config.log)
        except UsageError:
            warn(f"cannot write the log '{self.config.log}'")

    @cached_property
    def volumes(self) -> Volumes:
        from storagectl.volumes import Volumes

        return Volumes(self.pools)

    def say(self, words: str) -> None:
        """Print a line that --quiet leaves out."""
        if not self.quiet:
            output.write(words + "\n")

    def tell(self, words: str) -> None:
        """Print a line that JSON leaves out, because its document says the same."""
        if not self.json:
            self.say(words)

    @property
    def facts(self) -> ModuleType:
        """What makes data of pools and volumes: storagectl.facts, imported only here."""
        from storagectl import facts

        return facts

    def result(self, facts: Facts | Callable[[], Facts]) -> None:
        """Answer with facts, or what a function returns, where JSON is asked for.

        They stand in the place of what the command prints.
        """
        if self.document is not None and not self.dry_run:
            self.document.result = facts() if callable(facts) else facts

    def done(self, words: str, did: str, **facts: object) -> None:
        """Tell what was done: in words, or in JSON as one fixed word and what it was done to.

        A fact may be a function that finds it: only JSON asks it.
        """
        self.tell(words)
        self.done_silently(did, **facts)

    def done_silently(self, did: str, **facts: object) -> None:
        """Tell in JSON what was done by a command that has no words for it."""
        if self.document is not None and not self.dry_run:
            found = {name: fact() if callable(fact) else fact for name, fact in facts.items()}
            self.result({"did": did, **found})

    def pool(self, key: str, before: Facts | None = None) -> Callable[[], Facts]:
        """Return what finds the facts of a pool after a change.

        `before` is what there is to say of one that may be gone by then.
        """
        return lambda: self.facts.changed_pool(self.pools, key, before)

    def volume(self, name: str, pool: str) -> Callable[[], Facts]:
        """Return what finds the facts of a volume after it was made or changed."""
        return lambda: self.facts.changed_volume(self.volumes, name, pool)

    def pool_before(self, key: str) -> Facts | None:
        """Return what a pool is called that is about to go; None without JSON."""
        return self.facts.pool_reference(self.pools.find(key)) if self.json else None

    def volume_before(self, found: Found) -> Facts | None:
        """Return what a volume is called that is about to go; None without JSON."""
        return self.facts.volume_reference(found.volume, found.entry) if self.json else None

    def warn(self, line: str) -> None:
        """Print a line on stderr that JSON has among its warnings."""
        from storagectl.store import warned

        output.put(sys.stderr, line + "\n")
        warned.append(line)

    def report(self, error: StorageError) -> Facts | None:
        """Print an error after which the command goes on.  Returns: its facts, for JSON."""
        output.report(error)
        if not self.json:
            return None
        from storagectl.commands.document import error_facts

        return error_facts(error)

    def fail(self, error: StorageError) -> None:
        """Print the error that ends a command, and keep it for JSON."""
        output.report(error)
        if self.document is not None:
            self.document.fail(error)

    def note(self, words: str) -> None:
        """Print a line for who sits at a terminal: no script and no file gets it."""
        said = not (self.quiet or self.dry_run)
        if said and sys.stderr.isatty() and output.shows_hints():
            sys.stdout.flush()
            output.put(sys.stderr, words + "\n")

    def answer(self, yes: bool) -> None:
        """Answer a question by the exit status, 0 or 1, without a word but JSON's."""
        self.result({"exists": yes})
        self.has_data_on_stdout = not self.json
        if not yes:
            raise click.exceptions.Exit(1)

    @contextlib.contextmanager
    def doing(self, action: str) -> Iterator[None]:
        """Name what the block tries, for the first line of its errors."""
        try:
            yield
        except StorageError as error:
            if error.action is None:
                error.action = action
            raise

    def show_plan(self, *, only_stated: bool = False) -> None:
        """In a dry run, print what was going to be done."""
        if not self.dry_run:
            return
        if only_stated and not self.states_plan:
            if self.planner is not None:
                self.planner.forget()
            return
        script = self.host.planned(self.command)
        self.has_data_on_stdout = False
        if self.document is not None:
            self.document.result = {"did": "nothing", "script": script}
        else:
            output.kept = None
            output.write(script)

    def finish(self, seconds: float, *, succeeded: bool) -> None:
        """End a command's output: with its document, an empty line or the time it took."""
        if self.document is not None:
            if self.settings.timing:
                self.document.seconds = seconds
            stream = sys.stderr if self.has_data_on_stdout else sys.stdout
            self.document.end(stream, succeeded=succeeded)
        elif self.dry_run:
            output.kept = None
        elif self.has_data_on_stdout or self.settings.ended:
            return
        elif self.settings.timing:
            output.write(f"\n(Time: {output.decimal(seconds * 1000, 3)} ms)\n\n")
        else:
            self.say("")


MAX_FILE = 10 << 20


def read_file(path: str) -> bytes:
    """Return the content of a file that the user named.  Raises: ClientError."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        verb = "read" if isinstance(error, IsADirectoryError) else "open"
        raise ClientError(f"Failed to {verb} file '{path}': {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ClientError(f"Failed to open file '{path}': Value too large for defined data type")
    return data


def exclusive(**chosen: bool) -> None:
    """Refuse options that exclude each other, named as keywords."""
    given = [name.replace("_", "-") for name, value in chosen.items() if value]
    if len(given) > 1:
        raise ClientError(f"Options --{given[0]} and --{given[1]} are mutually exclusive")
