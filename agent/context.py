"""One installation, wired: config, places, ledger, tree, trust, registries, sandbox.

The command line and ``PluginHost`` each hold one; everything opens on first use.
"""

import datetime as dt
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import registry
from agent import __version__
from agent.audit.auditor import Auditor, Judged
from agent.audit.log import AuditLog
from agent.errors import AgentError
from agent.files import Files
from agent.ledger.ledger import Ledger
from agent.pipeline.admission import admit, granted_to, note_foreign_code, problem_of
from agent.pipeline.requirement import satisfies
from agent.settings.config import Config, configured_paths, load_config
from agent.settings.flags import laid_over
from agent.settings.home import user_home
from agent.settings.owner import require_usable
from agent.settings.places import Places, find_places
from agent.settings.reaching import Registries
from agent.settings.schema import HostSection
from agent.tree.activation import Activation
from agent.tree.generations import Tree
from agent.tree.ownership import claim, stranger
from agent.trust_in_force import TrustInForce
from sandbox.admission import Isolation
from sandbox.manifest import PluginManifest, parse_manifest

if TYPE_CHECKING:
    import sandbox
    import trust

LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """The global flags that lie over the config (contract §7)."""

    home: Path | None = None
    config: Path | None = None
    system: bool = False
    registry: str | None = None
    plain_http: bool = False
    insecure: bool = False
    ca_file: Path | None = None
    registry_config: tuple[Path, ...] = ()
    offline: bool = False

    def of_every_host(self) -> dict[str, Any]:
        """What the flags say of every registry, by the key of ``[registry.hosts."…"]``."""
        ca_file = None if self.ca_file is None else str(self.ca_file.absolute())
        flags = {"plain_http": self.plain_http, "insecure": self.insecure, "ca_file": ca_file}
        return {name: value for name, value in flags.items() if value}


@dataclass(slots=True)
class Context:
    """See the module.

    Args:
        options: The global flags.
        environ: The process environment.
        files: Performs every change on disk.
        clock: Seconds since the epoch.
        acting: What acts, for the audit log: the command line's verb, else ``host``.
        spare_plugins: See ``load_config``.
        default_isolation: Where plugins run that the config says nothing of.

    Raises:
        ConfigError: See ``load_config``.
    """

    options: Options = field(default_factory=Options)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    files: Files = field(default_factory=Files)
    clock: Callable[[], float] = time.time
    acting: str = "host"
    spare_plugins: bool = False
    default_isolation: Isolation = "inline"
    places: Places = field(init=False)
    config: Config = field(init=False)
    plugins_folder: Path = field(init=False)
    system_folder: Path = field(init=False)
    tree: Tree = field(init=False)
    registries: Registries = field(init=False)
    _ledger: Ledger | None = field(init=False, default=None)
    _replaced: Ledger | None = field(init=False, default=None)
    _opening: threading.Lock = field(init=False, default_factory=threading.Lock)
    _is_checked: bool = field(init=False, default=False)
    _audit: Auditor | None = field(init=False, default=None)
    _judged: dict[str, Judged] = field(init=False, default_factory=dict)
    _trust: TrustInForce = field(init=False)

    def __post_init__(self) -> None:
        self.places = find_places(
            self.environ,
            user_home(),
            home=self.options.home,
            config=self.options.config,
            system=self.options.system,
        )
        self.config = laid_over(
            load_config(self.places, self.environ, spare_plugins=self.spare_plugins),
            offline=self.options.offline,
            base=self.options.registry,
            every_host=self.options.of_every_host(),
        )
        self.registries = Registries.of(
            self.config,
            HostSection(**self.options.of_every_host()),
            self.places,
            self.files,
            self.environ,
            self.options.registry_config,
        )
        self.plugins_folder, self.system_folder = configured_paths(self.config, self.places)
        self.tree = Tree(self.plugins_folder, self.files, self._claim_tree)
        self._trust = TrustInForce(self.places, lambda: self.ledger)

    def close(self) -> None:
        """Close the ledger, if it was opened, and connections that are kept."""
        self.registries.connections.close()
        for ledger in filter(None, (self._ledger, self._replaced)):
            ledger.close()
        self._ledger = self._replaced = self._audit = None

    @property
    def ledger(self) -> Ledger:
        """The ledger, created where it is missing."""
        with self._opening:
            if self._ledger is None:
                require_usable(self.places.state, is_system=self.options.system)
                self.files.make_folder(self.places.state, mode=0o700)
                self._ledger = Ledger(self.ledger_path)
            return self._ledger

    def let_go_of_replaced(self) -> bool:
        """Go by the ledger's new file from now on, where it was replaced; whether it was."""
        with self._opening:
            if self._ledger is None or not self._ledger.is_replaced:
                return False
            # Closed later: another thread may be reading it just now.
            self._replaced, replaced = self._ledger, self._replaced
            self._ledger = self._audit = None
            self._trust.forget()
            self._is_checked = False
        if replaced is not None:
            replaced.close()
        return True

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies, whether it is there or not."""
        return self.places.state / "state.db"

    def stranger(self) -> AgentError | None:
        """Why this state may not change the plugin tree: it is another's; None where it may."""
        return stranger(self.tree, self.ledger, self.ledger_path)

    def _claim_tree(self) -> None:
        """What every writer asks under the tree's lock: is the ledger whole, is the tree its."""
        if not self._is_checked:
            self.ledger.check()
            self._is_checked = True
        claim(self.tree, self.ledger, self.ledger_path)

    @property
    def audit(self) -> Auditor:
        """Who writes down what is decided."""
        if self._audit is None:
            self._audit = Auditor(
                AuditLog(self.places.state / "audit", self.ledger, self.files),
                self.ledger,
                self.tree,
                self.clock,
                by=self.acting,
                judged=self._judged,
                granted_to=functools.partial(granted_to, self),
            )
        return self._audit

    @property
    def activation(self) -> Activation:
        """The effects that change which release serves."""
        problem = functools.partial(problem_of, self)
        return Activation(self.ledger, self.tree, self.clock, problem, self.audit)

    # -- trust

    def trust_store_path(self) -> Path:
        """See ``TrustInForce.path``."""
        return self._trust.path()

    def trust_store(self) -> "trust.TrustStore":
        """See ``TrustInForce.store``."""
        return self._trust.store()

    def trust_stamp(self) -> tuple[str, int, int, int] | None:
        """See ``TrustInForce.stamp``."""
        return self._trust.stamp()

    def judge(
        self,
        subject: "trust.Subject",
        evidence: "trust.Evidence",
        *,
        installed: bool = False,
    ) -> "trust.Verdict":
        """Verify a subject against the trust store in force, now."""
        import trust

        now = dt.datetime.fromtimestamp(self.clock(), dt.UTC)
        verdict = trust.verify(subject, evidence, self.trust_store(), now, installed=installed)
        self._judged[subject.id] = Judged.of(subject, evidence, verdict)
        return verdict

    # -- registries

    def bases(self) -> registry.Bases:
        """Where plugins named by ID are looked for."""
        return self.registries.bases()

    def open_repository(self, location: registry.Location) -> registry.Repository:
        """Open a repository; see ``Registries.open``."""
        return self.registries.open(location)

    def parse_manifest(self, data: bytes, name: str) -> PluginManifest:
        """Read a manifest for this version of the host."""
        return parse_manifest(data, name=name, host_version=__version__, satisfies=satisfies)

    def open_sandbox(
        self,
        *,
        unsigned: bool = False,
        repository: str | None = None,
        on_log: "Callable[[sandbox.LogRecord], None] | None" = None,
        stands_in: bool = True,
        isolation: Isolation | None = None,
    ) -> "sandbox.Sandbox":
        """A sandbox whose loads are verified and granted by this installation.

        Args:
            unsigned: Believe the bytes as they are: ``agent call PATH --dev`` only.
            repository: Where bytes came from that were never accepted before.
            on_log: Receives what plugins log.
            stands_in: See ``Sandbox``: a probe is no application, and knows no functions.
            isolation: Where plugins run; None = as ``isolation_for`` says.
        """
        import sandbox

        return sandbox.Sandbox(
            verify=functools.partial(
                admit, self, unsigned=unsigned, repository=repository, isolation=isolation
            ),
            parse=self.parse_manifest,
            cache_dir=self.places.cache,
            files=self.files,
            max_module_bytes=self.config.sandbox.max_module_bytes,
            on_log=on_log,
            on_crash_loop=lambda *what: self.audit.crash_loop(*what),  # noqa: PLW0108 - on first use
            on_foreign_code=functools.partial(note_foreign_code, self),
            stands_in=stands_in,
        )
