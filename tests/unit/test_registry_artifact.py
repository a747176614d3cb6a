"""The plugin's shape in a registry: contract §4, the table."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from registry import (
    ArtifactInput,
    ContentError,
    Descriptor,
    Manifest,
    build_artifact,
    read_artifact,
    sha256_digest,
)
from support.registry import make_artifact

TITLE = "org.opencontainers.image.title"
WASM, SIG, TOML, README = range(4)


@pytest.fixture
def document(tmp_path: Path) -> Any:
    """A good artifact's manifest, to be spoiled."""
    return json.loads(make_artifact(tmp_path).manifest_raw)


def read(document: Any, **options: int) -> Any:
    """Read the manifest as an artifact."""
    return read_artifact(Manifest.parse(json.dumps(document).encode()), **options)


def test_a_good_artifact_is_read(document: Any) -> None:
    """Each part is found by its media type."""
    artifact = read(document)
    assert artifact.stem == "hello-plugin"
    assert artifact.payload.media_type == "application/wasm"
    assert artifact.signature.annotations[TITLE] == "hello-plugin.sig"
    assert artifact.plugin_manifest.annotations[TITLE] == "hello-plugin.toml"
    assert artifact.readme is not None


def test_titles_and_readme_are_optional(document: Any) -> None:
    """Without titles there is no stem; without README none."""
    del document["layers"][README]
    for layer in document["layers"]:
        del layer["annotations"]
    artifact = read(document)
    assert (artifact.stem, artifact.readme) == (None, None)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.module.wasm.content.layer.v1+wasm",
    ],
)
def test_older_names_of_the_code_are_read(document: Any, media_type: str) -> None:
    """What older tools call layer 0 is layer 0."""
    document["layers"][WASM]["mediaType"] = media_type
    assert read(document).payload.media_type == media_type


def test_layers_of_later_versions_are_ignored(document: Any) -> None:
    """A type that isn't ours, even twice, is nobody's business."""
    extra = Descriptor.of("application/x", b"x").document()
    document["layers"] += [extra, extra]
    assert read(document) is not None


def spoil_type(document: Any) -> None:
    """Another artifactType."""
    document["artifactType"] = "application/vnd.example"


def spoil_no_type(document: Any) -> None:
    """No artifactType."""
    del document["artifactType"]


def spoil_order(document: Any) -> None:
    """The code is not layer 0."""
    document["layers"].reverse()


def spoil_no_layers(document: Any) -> None:
    """Nothing in it."""
    document["layers"] = []


def spoil_no_signature(document: Any) -> None:
    """Unsigned."""
    del document["layers"][SIG]


def spoil_no_toml(document: Any) -> None:
    """No manifest."""
    del document["layers"][TOML]


def spoil_no_code(document: Any) -> None:
    """No code."""
    del document["layers"][WASM]


def spoil_two_codes(document: Any) -> None:
    """Two codes under different names."""
    second = {**document["layers"][WASM], "mediaType": "application/vnd.wasm.content.layer.v1+wasm"}
    document["layers"].append(second)


def spoil_two_signatures(document: Any) -> None:
    """Two signatures."""
    document["layers"].append(document["layers"][SIG])


def spoil_two_readmes(document: Any) -> None:
    """Two READMEs."""
    document["layers"].append(document["layers"][README])


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_type,
        spoil_no_type,
        spoil_order,
        spoil_no_layers,
        spoil_no_signature,
        spoil_no_toml,
        spoil_no_code,
        spoil_two_codes,
        spoil_two_signatures,
        spoil_two_readmes,
    ],
)
def test_a_bad_shape_is_refused(document: Any, spoil: Any) -> None:
    """Each missing, doubled or misplaced part is a ``ContentError``."""
    spoil(document)
    with pytest.raises(ContentError, match="cannot use artifact"):
        read(document)


@pytest.mark.parametrize(
    ("layer", "title"),
    [
        (WASM, "hello-plugin.sig"),
        (WASM, "../hello-plugin.wasm"),
        (WASM, ".wasm"),
        (WASM, "a" * 65 + ".wasm"),
        (WASM, "other.wasm"),
        (SIG, "other.sig"),
        (TOML, "hello-plugin.TOML"),
        (TOML, "hello plugin.toml"),
        (README, "readme.md"),
        (README, "../README.md"),
    ],
)
def test_a_bad_title_is_refused(document: Any, layer: int, title: str) -> None:
    """A title names the one file it must, and all agree on the stem."""
    document["layers"][layer]["annotations"][TITLE] = title
    with pytest.raises(ContentError, match="cannot use artifact"):
        read(document)


def test_an_artifact_has_a_largest_size(document: Any) -> None:
    """All parts together count, as their descriptors say, before anything is fetched."""
    size_bytes = sum(part["size"] for part in [document["config"], *document["layers"]])
    assert read(document, max_artifact_bytes=size_bytes) is not None
    with pytest.raises(ContentError, match="expected ≤"):
        read(document, max_artifact_bytes=size_bytes - 1)
    document["layers"][WASM]["size"] = 2 << 30
    with pytest.raises(ContentError, match="expected ≤ 2147483648"):
        read(document)


def test_the_same_input_gives_the_same_digest(tmp_path: Path) -> None:
    """Neither folder nor time zone nor run changes a byte; and these bytes stay what they are."""
    (tmp_path / "other").mkdir()
    first, second = make_artifact(tmp_path), make_artifact(tmp_path / "other")
    assert first.manifest_raw == second.manifest_raw
    assert first.digest == sha256_digest(first.manifest_raw)
    given = plugin(tmp_path)
    moved = replace(given, created=given.created.astimezone(timezone(timedelta(hours=5))))
    assert build_artifact(given).digest == build_artifact(moved).digest
    # Recorded once: a change here makes every publisher's next push of an old version fail.
    assert build_artifact(given).digest == (
        "sha256:57fdf42ae36654922bb1f624841b4bd7ee8e359e919fa021898d4321b86f8267"
    )


def plugin(folder: Path) -> ArtifactInput:
    """Say everything that can be said of a plugin."""
    (folder / "p.wasm").write_bytes(b"\0asm\x0d\0\1\0")
    return ArtifactInput(
        stem="p",
        payload=folder / "p.wasm",
        signature=b"00" * 64,
        plugin_manifest=b"[plugin]\n",
        readme=b"# P\xc3\xa9\n",
        created=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        plugin_id="org.example.p",
        version="1.2.3-rc.1+linux",
        abi=1,
        capabilities=["log", "fs_read"],
        name="Pé",
        wasi="wasip2",
        min_host=">=0.1",
        description="One line.",
        license="MIT",
        authors=["Jane Dev <jane@example.org>", "Joe"],
        homepage="https://example.org",
        source="https://example.org/src",
        revision="abc123",
        imports=["stack-composer:plugin/host@1.0.0"],
        exports=["run"],
    )


def test_the_manifest_says_what_people_want_to_know(tmp_path: Path) -> None:
    """The annotations and the config of contract §4, all of them."""
    built = build_artifact(plugin(tmp_path))
    document = json.loads(built.manifest_raw)
    assert document["artifactType"] == "application/vnd.stack-composer.plugin.v1"
    assert document["annotations"] == {
        "org.opencontainers.image.title": "Pé",
        "org.opencontainers.image.version": "1.2.3-rc.1+linux",
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "org.opencontainers.image.description": "One line.",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.authors": "Jane Dev <jane@example.org>, Joe",
        "org.opencontainers.image.source": "https://example.org/src",
        "org.opencontainers.image.url": "https://example.org",
        "org.opencontainers.image.revision": "abc123",
        "dev.stack-composer.plugin.id": "org.example.p",
        "dev.stack-composer.plugin.abi": "1",
        "dev.stack-composer.plugin.capabilities": "log,fs_read",
        "dev.stack-composer.plugin.min-host": ">=0.1",
    }
    assert json.loads(built.config_raw) == {
        "created": "2026-01-02T03:04:05Z",
        "author": "Jane Dev <jane@example.org>, Joe",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer.digest for layer in built.layers],
        "component": {"imports": ["stack-composer:plugin/host@1.0.0"], "exports": ["run"]},
    }
    assert set(built.sources) == {part.digest for part in (built.config, *built.layers)}
    assert read_artifact(Manifest.parse(built.manifest_raw)).stem == "p"


def test_a_core_module_has_no_component_key(tmp_path: Path) -> None:
    """Only components describe imports and exports in the config."""
    config = json.loads(build_artifact(replace(plugin(tmp_path), wasi="wasip1")).config_raw)
    assert config["os"] == "wasip1"
    assert "component" not in config


@pytest.mark.parametrize("stem", ["", "../x", "a/b", ".hidden", "a" * 65, "a\n"])
def test_a_stem_must_be_a_file_name(tmp_path: Path, stem: str) -> None:
    """What could not be written as a file elsewhere is not published."""
    with pytest.raises(ContentError, match="cannot build"):
        build_artifact(replace(plugin(tmp_path), stem=stem))


def test_a_time_must_have_a_zone(tmp_path: Path) -> None:
    """A naive time would give another digest on another machine."""
    naive = plugin(tmp_path).created.replace(tzinfo=None)
    with pytest.raises(ContentError, match="time zone"):
        build_artifact(replace(plugin(tmp_path), created=naive))
