"""What bad input gets: the contract's exit code, a message that names it, nothing changed."""

import hashlib
import http.client
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry import BuiltArtifact, Descriptor
from support.system import (
    PLUGIN_ID,
    SAMPLES,
    STEM,
    CountedRegistry,
    Machine,
    Publisher,
    marked,
    opened,
    push_by_hand,
)
from support.trust import MIXED_ORDER, OFF_THE_CURVE, SMALL_ORDER, SMALL_ORDER_NON_CANONICAL

STRANGE_IMPORT = """(module
  (import "stack_composer_v1" "host_launch" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "health") (result i32) (i32.const 0)))"""
NO_HEALTH = """(module (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 0))
  (func (export "run") (param i32 i32) (result i64) (i64.const 0)))"""
ABI = "abi          = 1"


@dataclass
class Scene:
    """A host with 0.1.0 installed, and what a wicked or clumsy publisher needs."""

    machine: Machine
    publisher: Publisher
    docker: CountedRegistry
    folder: Path

    @property
    def repository(self) -> str:
        """Where the plugin comes from."""
        return f"{self.machine.registry}/{PLUGIN_ID}"

    def stranger(self) -> Publisher:
        """A publisher whom the host does not know."""
        return Publisher(self.machine, self.folder / "stranger", "stranger")

    def push(
        self, built: BuiltArtifact, document: dict[str, Any] | None = None, tag: str = "0.2.0"
    ) -> None:
        """Push an artifact without asking whether its parts belong together."""
        with opened(self.repository, self.folder) as repository:
            push_by_hand(repository, built, document, tag=tag)

    def push_plugin(self, **settings: Any) -> BuiltArtifact:
        """Push a signed 0.2.0 that is as ``settings`` say."""
        built = self.publisher.artifact(self.publisher.plugin("0.2.0", **settings))
        self.push(built)
        return built

    def push_edited(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Push a good 0.2.0 whose OCI manifest is edited first."""
        built = self.publisher.artifact(self.publisher.plugin("0.2.0"))
        document = json.loads(built.manifest_raw)
        edit(document)
        self.push(built, document)

    def push_marked(self) -> BuiltArtifact:
        """Push a 0.2.0 whose code no other test has: its blob can be spoilt."""
        code = (SAMPLES / "0.2.0" / "hello-plugin.wasm").read_bytes()
        return self.push_plugin(code=marked(code))

    def spoil(self, part: Descriptor, data: bytes) -> None:
        """Put other bytes into the registry's storage."""
        self.docker.blob(part.digest).write_bytes(data)

    def stored(self, part: Descriptor) -> bytes:
        """What the registry's storage has of a part."""
        return self.docker.blob(part.digest).read_bytes()


# Each makes one bad input, and returns what is to be pulled instead of 0.2.0, if so.


def unsigned(scene: Scene) -> None:
    """No layer holds a signature."""
    scene.push_edited(lambda document: document["layers"].pop(1))


def empty_signature(scene: Scene) -> None:
    """The ``.sig`` has no bytes."""
    scene.push(scene.publisher.artifact(scene.publisher.plugin("0.2.0"), signature=b""))


def malformed_signature(scene: Scene) -> None:
    """Uppercase hex is not the grammar of a ``.sig``."""
    scene.push(scene.publisher.artifact(scene.publisher.plugin("0.2.0"), signature=b"AB" * 64))


def forged(scene: Scene) -> None:
    """Signed by a key that nobody trusts."""
    stranger = scene.stranger()
    scene.push(stranger.artifact(stranger.plugin("0.2.0")))


def signed_for_another_version(scene: Scene) -> None:
    """The signature speaks of another version than the manifest."""
    folder = scene.publisher.plugin("0.2.0")
    scene.push(scene.publisher.artifact(folder, signed=f"{PLUGIN_ID} 0.1.9"))


def mixed(scene: Scene) -> None:
    """Manifest and signature of one release, code of another."""
    folder = scene.publisher.plugin("0.2.0")
    built = scene.publisher.artifact(folder)
    signature = built.sources[built.layers[1].digest]
    assert isinstance(signature, bytes)
    shutil.copy(SAMPLES / "0.4.0" / "hello-plugin.wasm", folder / f"{STEM}.wasm")
    scene.push(scene.publisher.artifact(folder, signature=signature))


def edited_manifest(scene: Scene) -> None:
    """A capability is put into the manifest after it was signed."""
    folder = scene.publisher.plugin("0.2.0")
    built = scene.publisher.artifact(folder)
    signature = built.sources[built.layers[1].digest]
    assert isinstance(signature, bytes)
    manifest = folder / f"{STEM}.toml"
    manifest.write_text(manifest.read_text().replace('["log"]', '["log", "network"]'))
    scene.push(scene.publisher.artifact(folder, signature=signature))


def wrong_scope(scene: Scene) -> None:
    """The key is trusted, for other plugins."""
    stranger = scene.stranger()
    stranger.trusted_by(scene.machine, "org.other.*")
    scene.push(stranger.artifact(stranger.plugin("0.2.0")))


def revoked_key(scene: Scene) -> None:
    """The key was revoked."""
    stranger = scene.stranger()
    stranger.trusted_by(scene.machine)
    scene.push(stranger.artifact(stranger.plugin("0.2.0")))
    scene.machine.run("trust", "revoke", stranger.key_id, "--reason", "laptop stolen")


def denied_release(scene: Scene) -> None:
    """The operator denies this very release."""
    release = scene.publisher.release("0.2.0")["release"]
    store = scene.machine.home / "config" / "trusted_keys.toml"
    with store.open("a") as file:
        file.write(f'\n[[deny]]\nrelease = "{release}"\nreason = "CVE-2026-0001"\n')


def truncated_payload(scene: Scene) -> None:
    """The registry's disk lost the code's last byte."""
    part = scene.push_marked().layers[0]
    scene.spoil(part, scene.stored(part)[:-1])


def wrong_payload(scene: Scene) -> None:
    """The registry's disk has other code of the same size."""
    part = scene.push_marked().layers[0]
    data = scene.stored(part)
    scene.spoil(part, data[:-1] + bytes([data[-1] ^ 1]))


def wrong_signature_blob(scene: Scene) -> None:
    """The registry's disk has another signature."""
    part = scene.push_marked().layers[1]
    scene.spoil(part, b"0" * part.size_bytes)


def oversize_manifest(scene: Scene) -> None:
    """The plugin's manifest is one comment too long."""
    scene.push_plugin(extra="#" * 65_536)


def oversize_oci_manifest(scene: Scene) -> str:
    """The OCI manifest has more than 4 MiB; a layout, as docker-registry takes none such."""
    built = scene.publisher.artifact(scene.publisher.plugin("0.2.0"))
    document = json.loads(built.manifest_raw)
    document["annotations"]["long"] = "x" * (4 << 20)
    layouts = f"oci:{scene.folder}/layouts/{PLUGIN_ID}"
    with opened(layouts, scene.folder) as repository:
        push_by_hand(repository, built, tag="0.2.0")
    root = scene.folder / "layouts" / PLUGIN_ID
    raw = json.dumps(document).encode()
    descriptor = Descriptor.of("application/vnd.oci.image.manifest.v1+json", raw)
    (root / "blobs" / "sha256" / descriptor.digest[7:]).write_bytes(raw)
    index = json.loads((root / "index.json").read_text())
    index["manifests"][0] |= {"digest": descriptor.digest, "size": descriptor.size_bytes}
    (root / "index.json").write_text(json.dumps(index))
    return f"{layouts}:0.2.0"


def missing_tag(scene: Scene) -> None:
    """Nobody has pushed 0.2.0."""
    assert scene.machine.json("tags", PLUGIN_ID).document["versions"] == ["0.1.0"]


def missing_repository(scene: Scene) -> str:
    """Nobody has pushed this plugin."""
    assert scene.machine.registry is not None
    return "org.example.nothing"


def unreachable_registry(scene: Scene) -> str:
    """Nothing listens at the registry's port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}/{scene.folder.name.lower().replace('_', '-')}/{PLUGIN_ID}"


def not_wasm(scene: Scene) -> None:
    """Layer 0 is a text."""
    scene.push_plugin(code=b"#!/bin/sh\nexit 0\n")


def broken_wasm(scene: Scene) -> None:
    """The magic is right, the rest is not."""
    scene.push_plugin(code=b"\0asm\x01\0\0\0\xff\xff")


def missing_export(scene: Scene) -> None:
    """The health function that the manifest names is not there."""
    scene.push_plugin(code=NO_HEALTH)


def unknown_import(scene: Scene) -> None:
    """The code wants a host function that no host has."""
    scene.push_plugin(code=STRANGE_IMPORT)


def unknown_manifest_key(scene: Scene) -> None:
    """A key that this version does not know is not passed over."""
    scene.push_plugin(edit={ABI: f'{ABI}\nautostart = "yes"'})


def missing_manifest_key(scene: Scene) -> None:
    """``entry`` is required."""
    scene.push_plugin(edit={'entry        = "run"\n': ""})


def other_id(scene: Scene) -> None:
    """Another plugin of the same publisher, validly signed, at this plugin's place."""
    scene.push_plugin(plugin_id="org.example.other", stem="other-plugin")


def other_version(scene: Scene) -> None:
    """An old release, validly signed, at a newer version's tag."""
    scene.push(scene.publisher.artifact(scene.publisher.plugin("0.1.5")))


def two_signature_layers(scene: Scene) -> None:
    """Which one is it?"""
    scene.push_edited(lambda document: document["layers"].append(document["layers"][1]))


def two_code_layers(scene: Scene) -> None:
    """Which one is it?"""
    scene.push_edited(lambda document: document["layers"].append(document["layers"][0]))


def _title(document: dict[str, Any], layer: int, title: str) -> None:
    document["layers"][layer]["annotations"]["org.opencontainers.image.title"] = title


def title_with_a_path(scene: Scene) -> None:
    """A title is a bare file name."""
    scene.push_edited(lambda document: _title(document, 0, "../../etc/cron.d/x.wasm"))


def titles_that_differ(scene: Scene) -> None:
    """The titles have one stem."""
    scene.push_edited(lambda document: _title(document, 0, "other.wasm"))


def titles_that_are_not_signed(scene: Scene) -> None:
    """The titles have the stem that the signed manifest names."""

    def edit(document: dict[str, Any]) -> None:
        for layer, suffix in enumerate(("wasm", "sig", "toml")):
            _title(document, layer, f"other.{suffix}")

    scene.push_edited(edit)


def another_artifact(scene: Scene) -> None:
    """It is no plugin."""
    scene.push_edited(
        lambda document: document.update(artifactType="application/vnd.example.chart.v1")
    )


def index_at_a_version(scene: Scene) -> None:
    """An index at a version's tag would let the registry choose among releases."""
    built = scene.publisher.artifact(scene.publisher.plugin("0.2.0"))
    scene.push(built, tag="hidden")
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": built.digest,
                "size": len(built.manifest_raw),
                "platform": {"architecture": "wasm", "os": "wasip1"},
            }
        ],
    }
    host, _, name = scene.repository.partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
        body = json.dumps(index)
        connection.request("PUT", f"/v2/{name}/manifests/0.2.0", body, headers)
        assert connection.getresponse().status == 201
    finally:
        connection.close()


def moved_tag(scene: Scene) -> None:
    """0.2.0 was looked at, then the tag was moved to other bytes, signed by the same key."""
    scene.publisher.release("0.2.0")
    scene.machine.run("pull", f"{PLUGIN_ID}:0.2.0", "--dry-run")
    scene.publisher.push(scene.publisher.plugin("0.2.0", sample="0.1.0"), "--force")


def below_floor(scene: Scene) -> str:
    """A version below the highest committed one."""
    scene.publisher.release("0.0.9")
    return f"{PLUGIN_ID}:0.0.9"


def stem_of_another(scene: Scene) -> str:
    """Another plugin whose files would overwrite this one's."""
    scene.publisher.release("0.1.0", plugin_id="org.example.thief")
    return "org.example.thief"


def stem_changed(scene: Scene) -> None:
    """A new version keeps its stem."""
    scene.push_plugin(stem="renamed-plugin")


def newer_abi(scene: Scene) -> None:
    """Made for a host of the future; its unknown keys are not what is complained about."""
    scene.push_plugin(edit={ABI: "abi          = 2\nlevitates    = true"})


def newer_host(scene: Scene) -> None:
    """Made for a newer version of this host."""
    scene.push_plugin(edit={ABI: f'{ABI}\nmin_host     = ">=9.0"'})


def unreadable_min_host(scene: Scene) -> None:
    """Not a requirement."""
    scene.push_plugin(edit={ABI: f'{ABI}\nmin_host     = "newest"'})


CASES: dict[Callable[[Scene], str | None], tuple[int, tuple[str, ...]]] = {
    unsigned: (7, ("sha256:", "unsigned", "signature")),
    empty_signature: (7, (PLUGIN_ID, "0.2.0", "signature")),
    malformed_signature: (7, (PLUGIN_ID, "0.2.0", "signature")),
    forged: (7, (PLUGIN_ID, "0.2.0", "signature")),
    signed_for_another_version: (7, (PLUGIN_ID, "0.2.0", "signature")),
    mixed: (7, (PLUGIN_ID, "0.2.0", "signature")),
    edited_manifest: (7, (PLUGIN_ID, "0.2.0", "signature")),
    wrong_scope: (7, (PLUGIN_ID, "0.2.0", "scope", "org.other.*")),
    revoked_key: (7, (PLUGIN_ID, "0.2.0", "revoked", "laptop stolen")),
    denied_release: (7, (PLUGIN_ID, "0.2.0", "CVE-2026-0001")),
    truncated_payload: (6, ("sha256:", PLUGIN_ID)),
    wrong_payload: (6, ("sha256:",)),
    wrong_signature_blob: (6, ("sha256:", PLUGIN_ID)),
    oversize_manifest: (6, ("65536", PLUGIN_ID)),
    oversize_oci_manifest: (6, ("4194304", PLUGIN_ID)),
    missing_tag: (3, (PLUGIN_ID, "0.2.0")),
    missing_repository: (3, ("org.example.nothing",)),
    unreachable_registry: (5, ("cannot reach 127.0.0.1:",)),
    not_wasm: (6, (f"{PLUGIN_ID} 0.2.0", "WebAssembly")),
    broken_wasm: (6, (f"{PLUGIN_ID} 0.2.0", "not a valid module")),
    missing_export: (3, (f"{PLUGIN_ID} 0.2.0", "health")),
    unknown_import: (8, (f"{PLUGIN_ID} 0.2.0", "stack_composer_v1", "host_launch")),
    unknown_manifest_key: (6, (PLUGIN_ID, "plugin.autostart")),
    missing_manifest_key: (6, (PLUGIN_ID, "plugin.entry")),
    other_id: (6, (PLUGIN_ID, "org.example.other")),
    other_version: (6, (PLUGIN_ID, "0.1.5", "0.2.0")),
    two_signature_layers: (6, ("sha256:", "2 layers", "signature")),
    two_code_layers: (6, ("sha256:", "2 layers", "application/wasm")),
    title_with_a_path: (6, ("sha256:", "title", "../../etc")),
    titles_that_differ: (6, ("sha256:", "titled", "other")),
    titles_that_are_not_signed: (6, (PLUGIN_ID, "other", STEM)),
    another_artifact: (6, ("sha256:", "chart", "artifactType")),
    index_at_a_version: (6, ("index",)),
    moved_tag: (8, (f"{PLUGIN_ID}:0.2.0", "moved", "first seen")),
    below_floor: (8, (PLUGIN_ID, "0.0.9", "floor 0.1.0")),
    stem_of_another: (8, ("org.example.thief", STEM, PLUGIN_ID)),
    stem_changed: (8, (PLUGIN_ID, STEM, "renamed-plugin")),
    newer_abi: (8, (PLUGIN_ID, "plugin.abi")),
    newer_host: (8, (PLUGIN_ID, "plugin.min_host", ">=9.0")),
    unreadable_min_host: (6, (PLUGIN_ID, "min_host", "newest")),
}


@pytest.fixture
def scene(machine: Machine, publisher: Publisher, docker: CountedRegistry, tmp_path: Path) -> Scene:
    """A host with 0.1.0 installed."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    return Scene(machine, publisher, docker, tmp_path)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_bad_input_changes_nothing(scene: Scene, make: Callable[[Scene], str | None]) -> None:
    """The contract's exit code, a message that names what is wrong, the same tree as before."""
    code, names = CASES[make]
    machine = scene.machine
    reference = make(scene) or f"{PLUGIN_ID}:0.2.0"
    before, compiled = machine.snapshot(), machine.compiled()
    ran = machine.json("pull", reference, expect=None)
    assert (ran.code, ran.row["outcome"]) == (code, "failed" if code in (3, 5) else "refused"), ran
    assert ran.row["from"] == ("0.1.0" if ran.row["id"] == PLUGIN_ID else None)
    for name in names:
        assert name in ran.err
        assert name in ran.row["detail"]
    assert ran.err.startswith("agent: cannot ")
    assert machine.snapshot() == before
    assert machine.compiled() == compiled
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


@pytest.mark.parametrize("make", [forged, not_wasm, missing_export, unknown_import, wrong_payload])
def test_a_refused_first_install_leaves_nothing(
    machine: Machine,
    publisher: Publisher,
    docker: CountedRegistry,
    tmp_path: Path,
    make: Callable[[Scene], str | None],
) -> None:
    """Where nothing is installed yet, a refusal leaves no file in the plugin tree."""
    make(Scene(machine, publisher, docker, tmp_path))
    machine.run("pull", PLUGIN_ID, expect=CASES[make][0])
    left = [path.name for path in machine.plugins.rglob("*") if not path.is_dir()]
    assert left in ([], [".lock"])
    assert machine.compiled() == set()
    assert machine.json("list").document["plugins"] == []
    machine.run("call", PLUGIN_ID, "run", "Jane", expect=3)


def test_a_weak_key_is_not_trusted(machine: Machine, publisher: Publisher) -> None:
    """``trust add`` refuses keys under which anybody can sign, and leaves the store as it is."""
    assert publisher.key_id
    store = machine.home / "config" / "trusted_keys.toml"
    before = store.read_bytes()
    for weak in (*SMALL_ORDER, *SMALL_ORDER_NON_CANONICAL, MIXED_ORDER, OFF_THE_CURVE):
        ran = machine.json("trust", "add", weak, "--owner", "x", "--scope", "org.x.*", expect=2)
        key_id = hashlib.sha256(bytes.fromhex(weak)).hexdigest()[:16]
        assert f"cannot trust the public key {key_id}" in ran.document["error"]["message"]
    assert store.read_bytes() == before
