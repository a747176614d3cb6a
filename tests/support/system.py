"""The whole by the command line: a machine, a publisher, a registry whose requests are counted."""

import contextlib
import hashlib
import http.client
import io
import json
import os
import queue
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wasmtime import wat2wasm

from agent.cli.main import main
from agent.files import Files
from registry import (
    Anonymous,
    ArtifactInput,
    Bases,
    BuiltArtifact,
    Descriptor,
    Repository,
    build_artifact,
    open_repository,
    parse_reference,
)
from trust import Subject, load_private, sign

SAMPLES = Path(__file__).parents[2] / "sdk" / "samples" / "hello"
PLUGIN_ID = "org.example.hello"
STEM = "hello-plugin"
LOG_WAIT_S = 20
PROCESS_WAIT_S = 60
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_ALONE = threading.RLock()
"""Where a program prints is one thing for all of its threads."""
_ID_AND_VERSION = re.compile(r'^(?:id|version) *= "([^"]*)"', re.MULTILINE)


# -- the command line


@dataclass(frozen=True)
class Ran:
    """How a verb ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--format json`` printed."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        assert document["schemaVersion"] == 1
        return document

    @property
    def row(self) -> dict[str, Any]:
        """The only plugin of the document."""
        (row,) = self.document["plugins"]
        assert isinstance(row, dict)
        return row


@dataclass
class Machine:
    """A host with an agent of its own: everything lies under ``home``.

    Attributes:
        registry: What ``registry.default`` is; None = the embedded one.
    """

    home: Path
    registry: str | None = None

    def __post_init__(self) -> None:
        self.configure()

    @property
    def config_file(self) -> Path:
        """Where its ``plugin-host.toml`` lies."""
        return self.home / "config" / "plugin-host.toml"

    @property
    def plugins(self) -> Path:
        """Its plugin tree."""
        return self.home / "plugins"

    def configure(self, text: str = "", *, probation: str = "10m", update: str = "") -> None:
        """Write its config anew."""
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        base = f'[registry]\ndefault = "{self.registry}"\n' if self.registry else ""
        self.config_file.write_text(
            f'[update]\nprobation = "{probation}"\n{update}\n{base}{text}', encoding="utf-8"
        )

    def run(self, *arguments: str | Path, expect: int | None = 0) -> Ran:
        """Run a verb in this process; ``expect`` is its exit code, None = whatever it is."""
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        err = io.StringIO()
        with _ALONE, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*map(str, arguments), "--home", str(self.home)])
        out.flush()
        raw = out.buffer
        assert isinstance(raw, io.BytesIO)
        ran = Ran(code, raw.getvalue().decode(), err.getvalue())
        assert expect in (None, code), f"{arguments}: {ran}"
        return ran

    def json(self, *arguments: str | Path, expect: int | None = 0) -> Ran:
        """Run a verb with ``--format json``."""
        return self.run(*arguments, "--format", "json", expect=expect)

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line that runs a verb as a process of its own."""
        return [sys.executable, "-m", "agent", "--home", str(self.home), *map(str, arguments)]

    def process(self, *arguments: str | Path, expect: int | None = 0) -> Ran:
        """Run a verb as a process of its own."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_WAIT_S,
        )
        ran = Ran(done.returncode, done.stdout, done.stderr)
        assert expect in (None, ran.code), f"{arguments}: {ran}"
        return ran

    @contextlib.contextmanager
    def popen(self, *arguments: str | Path, **settings: Any) -> Iterator[subprocess.Popen[str]]:
        """Start a verb as a process; killed at the end if it still runs."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(
            self.command(*arguments), text=True, **{**pipes, **settings}
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def snapshot(self) -> dict[str, str]:
        """The plugin tree to the last byte and mode, and what ``list`` says of it."""
        return {"list": self.json("list").out, **tree_at(self.plugins)}

    def compiled(self) -> set[str]:
        """The names of what was compiled, and kept."""
        return {path.name for path in self.home.glob("cache/aot/*.aot")}

    def version(self, plugin_id: str = PLUGIN_ID) -> str | None:
        """The version of a plugin that serves."""
        rows = self.json("list").document["plugins"]
        return next((row["version"] for row in rows if row["id"] == plugin_id), None)


def tree_at(folder: Path) -> dict[str, str]:
    """All that lies in a folder, to the last byte and mode; no locks, no copy of the ledger."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in (".lock", ".memory"):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = f"folder {path.stat().st_mode:o}"
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = f"{digest} {path.stat().st_mode:o}"
    return found


# -- the publisher


@dataclass
class Publisher:
    """Who makes, signs and pushes plugins."""

    machine: Machine
    folder: Path
    name: str = "publisher"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key_id = str(self.machine.json("keygen", self.key).document["key_id"])

    @property
    def key(self) -> Path:
        """The private key's file."""
        return self.folder / f"{self.name}.pem"

    @property
    def public(self) -> Path:
        """The public key's file."""
        return self.folder / f"{self.name}.pem.pub"

    def trusted_by(self, machine: Machine, scope: str = "org.example.*", *more: str) -> None:
        """Have an operator believe the key."""
        machine.run("trust", "add", self.public, "--owner", self.name, "--scope", scope, *more)

    def plugin(
        self,
        version: str,
        *,
        plugin_id: str = PLUGIN_ID,
        stem: str = STEM,
        code: str | bytes | None = None,
        edit: Mapping[str, str] | None = None,
        sample: str | None = None,
        extra: str = "",
    ) -> Path:
        """Write a plugin's folder, unsigned.

        Args:
            version: As in the manifest.
            plugin_id: As in the manifest.
            stem: The common name of its files.
            code: WebAssembly text or bytes; default: the sample's.
            edit: Replacements in the manifest's text.
            sample: The version of the sample to take; default: ``version``, else 0.1.0.
            extra: Put at the end of the manifest.
        """
        source = SAMPLES / (sample or version)
        if not source.is_dir():
            source = SAMPLES / "0.1.0"
        folder = self.folder / f"{plugin_id}-{version}-{uuid.uuid4().hex[:6]}"
        folder.mkdir()
        text = (source / "hello-plugin.toml").read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        lines[1] = f'id = "{plugin_id}"\n'
        lines[2] = f'version = "{version}"\n'
        text = "".join(lines).replace("file:hello-plugin.sig", f"file:{stem}.sig")
        for old, new in (edit or {}).items():
            assert old in text
            text = text.replace(old, new)
        (folder / f"{stem}.toml").write_text(text + extra, encoding="utf-8")
        if code is None:
            code = (source / "hello-plugin.wasm").read_bytes()
        (folder / f"{stem}.wasm").write_bytes(
            code if isinstance(code, bytes) else bytes(wat2wasm(code))
        )
        return folder

    def push(self, folder: Path, *arguments: str) -> dict[str, Any]:
        """Sign and push a folder."""
        return self.machine.json("push", folder, "--key", self.key, *arguments).document

    def release(self, version: str, *arguments: str, **settings: Any) -> dict[str, Any]:
        """Write, sign and push a plugin."""
        return self.push(self.plugin(version, **settings), *arguments)

    def artifact(
        self, folder: Path, *, signed: str | None = None, signature: bytes | None = None
    ) -> BuiltArtifact:
        """Make the artifact of a folder by hand: none of the agent's checks are made.

        Args:
            folder: As ``plugin`` writes it.
            signed: The id and version that the signature speaks of; default: the manifest's.
            signature: The bytes of the ``.sig``; default: a valid one.
        """
        (manifest,) = folder.glob("*.toml")
        code = manifest.with_suffix(".wasm")
        text = manifest.read_bytes()
        words = signed or " ".join(_ID_AND_VERSION.findall(text.decode())[:2])
        plugin_id, version = words.split(" ")
        subject = Subject(
            plugin_id,
            version,
            hashlib.sha256(text).hexdigest(),
            hashlib.sha256(code.read_bytes()).hexdigest(),
        )
        if signature is None:
            signature = sign(subject, load_private(self.key))
        return build_artifact(
            ArtifactInput(
                stem=manifest.stem,
                payload=code,
                signature=signature,
                plugin_manifest=text,
                readme=None,
                created=CREATED,
                plugin_id=plugin_id,
                version=version,
                abi=1,
                capabilities=[],
                name="Hello",
            )
        )


# -- registries


def taken(folder: Path, *versions: str) -> Publisher:
    """A publisher, and a host that took these versions one after the other, without a trial."""
    machine = Machine(folder / "host")
    machine.configure(probation="0s")
    publisher = Publisher(machine, folder / "publisher")
    publisher.trusted_by(machine)
    for version in versions:
        publisher.release(version)
        machine.run("pull", f"{PLUGIN_ID}:{version}")
    return publisher


@dataclass
class CountedRegistry:
    """A docker-registry whose log tells every request.

    Attributes:
        host: ``127.0.0.1:port``.
        storage: Its blobs lie here.
        connections: How many the requests came over at the last look.
        asked_at: When each of those came, in seconds since the epoch.
    """

    host: str
    storage: Path
    connections: int = 0
    asked_at: list[float] = field(default_factory=list)
    _lines: "queue.SimpleQueue[tuple[str, str, str, str]]" = field(
        default_factory=queue.SimpleQueue
    )

    def requests(self) -> list[tuple[str, str]]:
        """The (method, path) of every request since the last look, in order.

        The registry logs a request before it answers, so all that came before a last one of
        our own are there once that one is.
        """
        last = f"/v2/last-{uuid.uuid4().hex}/tags/list"
        connection = http.client.HTTPConnection(self.host, timeout=LOG_WAIT_S)
        try:
            connection.request("GET", last)
            connection.getresponse().read()
        finally:
            connection.close()
        found: list[tuple[str, str]] = []
        peers = set[str]()
        self.asked_at = []
        while True:
            method, path, peer, at = self._lines.get(timeout=LOG_WAIT_S)
            if path == last:
                break
            found.append((method, path))
            peers.add(peer)
            self.asked_at.append(datetime.fromisoformat(at).timestamp())
        self.connections = len(peers)
        return found

    def blob(self, digest: str) -> Path:
        """The file that holds a blob."""
        hexadecimal = digest.removeprefix("sha256:")
        blobs = self.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / hexadecimal[:2] / hexadecimal / "data"


@contextlib.contextmanager
def counted_registry(folder: Path) -> Iterator[CountedRegistry]:
    """Run a docker-registry that keeps its data in ``folder``."""
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: debug, formatter: json, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\n"
        "http: {addr: '127.0.0.1:0', secret: test}\n",
        encoding="utf-8",
    )
    started: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    running = CountedRegistry("", folder)

    def read(log: Iterator[str]) -> None:
        for line in log:
            entry = json.loads(line)
            message = entry.get("msg", "")
            if message.startswith("listening on "):
                started.put(message.removeprefix("listening on "))
            elif message == "authorizing request":
                asked = ("method", "uri", "remoteaddr")
                method, path, peer = (entry[f"http.request.{name}"] for name in asked)
                running._lines.put((method, path, peer, entry["time"]))
        started.put(None)

    with subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    ) as process:
        assert process.stderr is not None
        reader = threading.Thread(target=read, args=(process.stderr,))
        reader.start()
        try:
            host = started.get(timeout=LOG_WAIT_S)
            assert host is not None
            running.host = host
            yield running
        finally:
            process.kill()
            process.wait()
            reader.join()


def opened(text: str, folder: Path) -> Repository:
    """Open the repository of a reference, as nobody in particular."""
    bases = Bases(default="", namespaces={}, home=folder)
    location = parse_reference(text, bases).location
    return open_repository(location, files=Files(), credentials=Anonymous())


def push_by_hand(
    repository: Repository,
    built: BuiltArtifact,
    document: Mapping[str, object] | None = None,
    *,
    tag: str,
) -> Descriptor:
    """Push an artifact's blobs and a manifest, its own or another, and let the tag move."""
    for blob in (built.config, *built.layers):
        if not repository.has_blob(blob):
            repository.push_blob(blob, built.sources[blob.digest])
    raw = built.manifest_raw if document is None else json.dumps(document).encode()
    return repository.push_manifest(raw, tag=tag)


def marked(code: bytes) -> bytes:
    """The same code with a mark of its own: no other test has these bytes."""
    mark = uuid.uuid4().hex.encode()
    name = b"mark"
    section = bytes([len(name)]) + name + mark
    return code + b"\0" + bytes([len(section)]) + section
