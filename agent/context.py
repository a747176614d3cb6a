"""One installation, wired: config, places, ledger, tree, trust, registries, sandbox.

The command line and ``PluginHost`` each hold one. Everything opens on first use, so that a
command pays for what it needs.
"""

import contextlib
import datetime as dt
import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import registry
from agent import __version__
from agent.activation import Activation
from agent.config import Config, configured_paths, load_config, trust_store_path
from agent.errors import NetworkError, TrustError, UsageError
from agent.files import Files
from agent.generations import Tree
from agent.grants import granted, limits_for
from agent.ledger import Ledger
from agent.model import Generation
from agent.places import Places, find_places
from agent.requirement import satisfies
from agent.schema import HostSection, local_path
from agent.subjects import subject_of
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
    offline: bool = False


@dataclass(slots=True)
class Context:
    """See the module.

    Args:
        options: The global flags.
        environ: The process environment.
        files: Performs every change on disk.
        clock: Seconds since the epoch.

    Raises:
        ConfigError: See ``load_config``.
    """

    options: Options = field(default_factory=Options)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    files: Files = field(default_factory=Files)
    clock: Callable[[], float] = time.time
    places: Places = field(init=False)
    config: Config = field(init=False)
    plugins_folder: Path = field(init=False)
    system_folder: Path = field(init=False)
    tree: Tree = field(init=False)
    _ledger: Ledger | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.places = find_places(
            self.environ,
            Path.home(),
            home=self.options.home,
            config=self.options.config,
            system=self.options.system,
        )
        self.config = load_config(self.places, self.environ)
        self.plugins_folder, self.system_folder = configured_paths(self.config, self.places)
        self.tree = Tree(self.plugins_folder, self.files)

    def close(self) -> None:
        """Close the ledger, if it was opened."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    @property
    def ledger(self) -> Ledger:
        """The ledger, created where it is missing."""
        if self._ledger is None:
            self.files.make_folder(self.places.state, mode=0o700)
            self._ledger = Ledger(self.places.state / "state.db")
        return self._ledger

    @property
    def activation(self) -> Activation:
        """The effects that change which release serves."""
        return Activation(self.ledger, self.tree, self.clock)

    # -- trust

    def trust_store_path(self) -> Path:
        """The trust store in force, or where one would be created."""
        return trust_store_path(self.places)

    def trust_store(self) -> "trust.TrustStore":
        """The trust store in force, read anew; empty where there is none.

        Raises:
            trust.StoreError: It is broken, unsafe, or older than one seen before.
        """
        import trust

        path = self.trust_store_path()
        if not path.exists():
            return trust.TrustStore.empty(path)
        store = trust.load(path, uid=os.geteuid())
        highest = self.ledger.remember_serial(str(path), store.serial)
        if store.serial < highest:
            raise UsageError(
                f"cannot use {path}: its serial {store.serial} is lower than {highest}, seen "
                "before: an older store was put back",
                hint=f"restore the newer file, or raise serial above {highest} after a review",
            )
        return store

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
        return trust.verify(subject, evidence, self.trust_store(), now, installed=installed)

    def refusal_terms(self) -> str:
        """What a refusal depends on: a refused candidate is judged anew when either changes."""
        return f"trust {self.trust_store().serial}, agent {__version__}"

    def ceiling_of(self, generation: Generation) -> frozenset[str] | None:
        """The most that the key of an installed release may grant; None = no ceiling."""
        for key in self.trust_store().keys:
            if key.public.key_id == generation.key_id:
                return key.max_capabilities
        return frozenset()

    # -- registries

    def bases(self) -> registry.Bases:
        """Where plugins named by ID are looked for; ``--registry`` replaces the config's."""
        base = self.options.registry
        return registry.Bases(
            default=base or self.config.registry.default,
            namespaces={} if base else self.config.namespaces,
            home=self.places.home,
            working_folder=Path.cwd(),
        )

    def open_repository(self, location: registry.Location) -> registry.Repository:
        """Open a repository with the settings of its host.

        Raises:
            NetworkError: It is behind a network and the agent is offline.
        """
        if isinstance(location, registry.LayoutLocation):
            return registry.open_repository(location, files=self.files)
        if self.options.offline or self.config.network.offline:
            raise NetworkError(
                f"cannot reach {location.text}: offline",
                hint="leave out --offline, or set network.offline = false",
            )
        host = self.config.hosts.get(location.host, HostSection())
        home = self.places.home
        settings = registry.HttpSettings(
            plain_http=True if self.options.plain_http else host.plain_http,
            insecure=self.options.insecure or host.insecure,
            ca_file=self.options.ca_file or _path(host.ca_file, home),
            client_cert=_path(host.client_cert, home),
            client_key=_path(host.client_key, home),
            proxy=self.config.network.proxy,
        )
        return registry.open_repository(location, files=self.files, http=settings)

    # -- the sandbox

    def parse_manifest(self, data: bytes, name: str) -> PluginManifest:
        """Read a manifest for this version of the host."""
        return parse_manifest(data, name=name, host_version=__version__, satisfies=satisfies)

    def open_sandbox(
        self,
        *,
        unsigned: bool = False,
        repository: str | None = None,
        on_log: "Callable[[sandbox.LogRecord], None] | None" = None,
    ) -> "sandbox.Sandbox":
        """A sandbox whose loads are verified and granted by this installation.

        Args:
            unsigned: Believe the bytes as they are: ``agent call PATH --dev`` only.
            repository: Where bytes came from that were never accepted before.
            on_log: Receives what plugins log.
        """
        import sandbox

        return sandbox.Sandbox(
            verify=functools.partial(self._admit, unsigned=unsigned, repository=repository),
            parse=self.parse_manifest,
            cache_dir=self.places.cache,
            files=self.files,
            max_module_bytes=self.config.sandbox.max_module_bytes,
            on_log=on_log,
        )

    def prune_compiled(self) -> None:
        """Drop compiled code of payloads that no sealed release has."""
        ledger = self.ledger
        keep = {g.payload_sha256 for i in ledger.plugin_ids() for g in ledger.generations(i)}
        with contextlib.closing(self.open_sandbox()) as sandbox:
            sandbox.prune(keep)

    def _admit(
        self, files: "sandbox.PluginFiles", *, unsigned: bool, repository: str | None
    ) -> "sandbox.Admission":
        """Verify a set and say what it may do; raises ``TrustError`` where it is refused."""
        import sandbox
        import trust

        manifest = self.parse_manifest(files.manifest, f"{files.stem}.toml")
        subject = subject_of(manifest, files.manifest, files.payload)
        ceiling: frozenset[str] | None = None
        if not unsigned:
            accepted = self.ledger.generation(manifest.id, subject.release)
            evidence = trust.Evidence(
                signature=files.signature,
                payload=files.payload,
                repository=accepted.repository if accepted else repository,
            )
            verdict = self.judge(subject, evidence, installed=accepted is not None)
            if not verdict.accepted:
                raise refusal(f"{manifest.id} {manifest.version}", verdict)
            ceiling = verdict.max_capabilities
        section = self.config.plugin(manifest.id)
        decisions = self.ledger.decisions(manifest.id)
        data_dir = _path(section.data_dir, self.places.home) or self.places.data / manifest.id
        return sandbox.Admission(
            granted=granted(self.config, manifest.id, decisions, ceiling),
            limits=limits_for(self.config, section, manifest.limits),
            data_dir=data_dir,
            settings={name: _setting(value) for name, value in section.settings.items()},
            release=subject.release,
        )


def refusal(what: str, verdict: "trust.Verdict") -> TrustError:
    """The error for a verdict that is not accepted: its first bad finding."""
    bad = next((finding for finding in verdict.findings if not finding.ok), None)
    detail = f"{bad.rule}: {bad.detail}" if bad else "no finding"
    return TrustError(
        f"cannot trust {what}: {detail}",
        hint="agent verify shows every finding; agent trust list shows whom you believe",
    )


def _setting(value: object) -> str:
    """A setting as the environment variable that the plugin reads."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _path(text: str | None, home: Path) -> Path | None:
    return None if text is None else local_path(text, home)
