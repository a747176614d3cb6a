"""One installation in a folder: a tree, a ledger and a clock; and a disk that dies when told."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from agent.context import Context, Options
from agent.files import Files
from agent.ledger.ledger import Ledger
from agent.model import Generation, PluginSet, Samples
from agent.pipeline.resealing import renew
from agent.tree.activation import Activation
from agent.tree.flat import FlatSets, Identity
from agent.tree.flat_model import FlatSet
from agent.tree.generations import Tree

PLUGIN_ID = "org.example.hello"
STEM = "hello-plugin"
REPOSITORY = "oci:/srv/registry/org.example.hello"
_STAT = re.compile(r"(wasm|sig|toml):\d+:\d+:\d+:\d+")
NOW = 1_800_000_000.0
"""The first moment of every test's clock, in seconds since the epoch; a whole minute."""


class Crash(BaseException):
    """The process is gone: nothing may catch it."""


class Fuse:
    """Counts effects, and stops the process before the n-th.

    Args:
        effects_left: How many effects still happen; None = all of them.
    """

    def __init__(self, effects_left: int | None = None) -> None:
        self._left = effects_left
        self.burnt = 0

    def burn(self) -> None:
        """Note an effect that is about to happen."""
        if self._left is not None and self.burnt >= self._left:
            raise Crash
        self.burnt += 1


class DyingFiles(Files):
    """A disk that stops before the n-th effect, and leaves what a dead process leaves.

    Flushing is left out: what is not on the disk after a power cut is another test's subject.
    """

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def make_folder(self, path: Path, *, mode: int = 0o755) -> None:
        """An effect."""
        self._fuse.burn()
        super().make_folder(path, mode=mode)

    @contextmanager
    def temporary(self, folder: Path, *, mode: int = 0o600) -> Iterator[tuple[BinaryIO, Path]]:
        """An effect; a crash inside leaves the temporary file behind."""
        self._fuse.burn()
        with super().temporary(folder, mode=mode) as (file, path):
            try:
                yield file, path
            except Crash:
                if path.exists():
                    os.link(path, path.with_name(f"{path.name}-left"))
                raise

    def rename(self, source: Path, target: Path) -> None:
        """An effect."""
        self._fuse.burn()
        super().rename(source, target)

    def sync_file(self, path: Path) -> None:
        """No effect that this process could see."""

    def seal_folder(self, path: Path, *, mode: int) -> None:
        """An effect."""
        self._fuse.burn()
        super().seal_folder(path, mode=mode)

    def remove(self, path: Path) -> None:
        """An effect."""
        self._fuse.burn()
        super().remove(path)

    def remove_tree(self, path: Path) -> None:
        """An effect for each file: a folder can be left half removed."""
        if path.is_dir():
            path.chmod(0o700)
            for file in sorted(path.iterdir()):
                self._fuse.burn()
                file.unlink()
        self._fuse.burn()
        super().remove_tree(path)


class DyingLedger(Ledger):
    """A ledger that stops before the n-th durable step; a transaction is one step.

    It does not wait for the disk: this is about order, and a power cut is another subject.
    """

    def __init__(self, path: Path, fuse: Fuse) -> None:
        self._fuse: Fuse | None = None
        self._open = 0
        super().__init__(path)
        super()._run("PRAGMA synchronous=OFF")
        self._fuse = fuse

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """An effect."""
        self._burn()
        self._open += 1
        try:
            with super().transaction():
                yield
        finally:
            self._open -= 1

    def _run(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        if not self._open and not statement.startswith(("SELECT", "PRAGMA")):
            self._burn()
        return super()._run(statement, values)

    def _burn(self) -> None:
        if self._fuse is not None:
            self._fuse.burn()


def payload_of(version: str) -> bytes:
    """The code of a version; other bytes for each."""
    return b"\0asm code of " + version.encode()


def generation(
    version: str = "0.1.0",
    *,
    plugin_id: str = PLUGIN_ID,
    stem: str = STEM,
    installed_at: float = NOW,
    capabilities: tuple[str, ...] = ("log",),
    repository: str | None = REPOSITORY,
) -> Generation:
    """A release that is the same on every run."""
    return Generation(
        plugin_id=plugin_id,
        version=version,
        release=hashlib.sha256(f"{plugin_id} {version}".encode()).hexdigest(),
        stem=stem,
        payload_sha256=hashlib.sha256(payload_of(version)).hexdigest(),
        key_id="24f8bb9819133fe1",
        capabilities=capabilities,
        digest=f"sha256:{hashlib.sha256(version.encode()).hexdigest()}",
        repository=repository,
        installed_at=installed_at,
    )


def plugin_set(folder: Path, version: str = "0.1.0", *, stem: str = STEM) -> PluginSet:
    """The files of a version, the code written to ``folder``."""
    payload = folder / f"incoming-{version}.wasm"
    payload.write_bytes(payload_of(version))
    return PluginSet(
        stem,
        payload,
        signature=f"signature of {version}".encode(),
        manifest=f"manifest of {version}".encode(),
        readme=f"readme of {version}".encode(),
    )


@contextmanager
def installed_at(
    home: Path, *versions: str, capabilities: tuple[str, ...] = ("log",), probation_s: int = 0
) -> Iterator[Context]:
    """An installation under ``--home`` in which these versions went live, one after another."""
    now = NOW
    context = Context(Options(home=home), environ={}, clock=lambda: now)
    try:
        for version in versions or ("0.1.0",):
            now += 1
            new = generation(version, installed_at=now, capabilities=capabilities)
            context.ledger.add_generation(new)
            context.tree.seal(new, plugin_set(home, version))
            context.activation.activate(new, probation_s=probation_s, channel=None)
        yield context
    finally:
        context.close()


@dataclass
class World:
    """One installation; ``now`` is its clock.

    Args:
        root: Its folder; what is there already is used.
        fuse: When it dies.
        kind: The activation under test.
    """

    root: Path
    fuse: Fuse = field(default_factory=Fuse)
    kind: type[Activation] = Activation
    now: float = NOW
    tree: Tree = field(init=False)
    ledger: Ledger = field(init=False)
    activation: Activation = field(init=False)

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        self.tree = Tree(self.root / "plugins", DyingFiles(self.fuse))
        self.ledger = DyingLedger(self.root / "state.db", self.fuse)
        self.activation = self.kind(self.ledger, self.tree, lambda: self.now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def seal(self, version: str) -> Generation:
        """Stage and seal a version as the pipeline does."""
        new = generation(version, installed_at=self.now)
        self.ledger.add_generation(new)
        self.tree.seal(new, plugin_set(self.root, version))
        return new

    def install(self, version: str, *, probation_s: int = 0) -> Generation:
        """Seal a version and make it serve."""
        new = self.seal(version)
        self.activation.activate(new, probation_s=probation_s, channel=None)
        return new

    def put(self, version: str, *, signed: str = "", parts: str = "wasm sig toml") -> None:
        """Copy a version's flat files into the plugin folder, as people do."""
        plugins = self.root / "plugins"
        plugins.mkdir(exist_ok=True)
        data = {
            "wasm": payload_of(version),
            "sig": f"signature of {version}{signed}".encode(),
            "toml": f"manifest of {version}".encode(),
        }
        for part in parts.split():
            (plugins / f"{STEM}.{part}").write_bytes(data[part])

    def adopt(self, *, probation_s: int = 0, kind: type[FlatSets] = FlatSets) -> None:
        """Look at the flat sets, and take what was put there, as ``DropIns`` does."""
        flats = kind(self.activation, self._identify)
        for flat in flats.changed():
            examined = flats.examine(flat.stem)
            if examined is None or examined.identity is None:
                continue
            version, signature = self._text("toml"), self._text("sig")
            if not signature.startswith(version):
                continue
            live = self.activation.live(PLUGIN_ID)
            if live is not None and live.version == version:
                self.renew(version, signature, from_copies=True)
            else:
                self.install(version, probation_s=probation_s)

    def renew(self, version: str, signature: str, *, from_copies: bool = False) -> None:
        """Give a sealed version another signature, and bytes that are whole."""
        new = replace(generation(version), key_id="00000000000000ff")
        plugin = replace(
            plugin_set(self.root, version), signature=f"signature of {signature}".encode()
        )
        renew(self.activation, new, plugin, from_copies=from_copies)

    def _identify(self, flat: FlatSet) -> Identity | None:
        version = self._text("toml") if flat.is_whole else ""
        plugins = self.root / "plugins"
        if not version or (plugins / f"{STEM}.wasm").read_bytes() != payload_of(version):
            return None
        return Identity(PLUGIN_ID, generation(version).release)

    def _text(self, part: str) -> str:
        """What a flat text speaks of."""
        text = (self.root / "plugins" / f"{STEM}.{part}").read_text()
        return text.partition(" of ")[2]

    def fail_calls(self, version: str, count: int) -> None:
        """Record calls that failed."""
        minute = int(self.now // 60)
        row = (PLUGIN_ID, generation(version).release, minute, Samples(count, count))
        self.ledger.add_samples([row])

    def picture(self) -> list[object]:
        """All that is on the disk and in the ledger, but for names that are made up."""
        seen: list[object] = []
        plugins = self.root / "plugins"
        for path in sorted(plugins.rglob("*")):
            if ".tmp-" in path.name:
                continue
            name = str(path.relative_to(plugins))
            if path.is_symlink():
                seen.append((name, str(path.readlink())))
            elif path.is_dir():
                seen.append((name, stat.S_IMODE(path.stat().st_mode)))
            else:
                seen.append((name, path.read_bytes()))
        # How copies look to stat is of each disk, and not what was done to it.
        return [*seen, *(_STAT.sub(r"\1", line) for line in self.ledger._db.iterdump())]
