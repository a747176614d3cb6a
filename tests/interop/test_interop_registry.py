"""oras, crane and cosign, and registries of others: each reads what we write, and we what they do.

The programs are those of ``make peers``.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.registry import attach, docker_registry
from support.system import PLUGIN_ID, Machine, Publisher, opened

pytestmark = pytest.mark.interop

PEERS = Path(__file__).parents[2] / ".peers" / "bin"
RUN_S = 120
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SBOM = "application/spdx+json"


def peer(name: str) -> str:
    """The path of a program."""
    path = PEERS / name
    assert path.is_file(), f"cannot find {path}: make peers builds it"
    return str(path)


def run(name: str, *arguments: str | Path, cwd: Path) -> str:
    """Run a program; what it printed on stdout."""
    done = subprocess.run(
        [peer(name), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "HOME": str(cwd), "COSIGN_PASSWORD": "", "DOCKER_CONFIG": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
    assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def subjects() -> Iterator[str]:
    """A registry with the referrers API."""
    with subprocess.Popen([peer("subjects")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on ")
            yield line.removeprefix("listening on ").strip()
        finally:
            process.kill()


@pytest.fixture(params=["docker-registry 2.8", "distribution 3", "referrers API"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A registry of each kind."""
    storage = tmp_path / "storage"
    storage.mkdir()
    if request.param == "referrers API":
        running = subjects()
    else:
        is_new = request.param == "distribution 3"
        program = peer("registry") if is_new else "docker-registry"
        running = docker_registry(storage, program=program)
    with running as found:
        yield found


@pytest.fixture
def machine(host: str, tmp_path: Path) -> Machine:
    """A host that looks for plugins there."""
    return Machine(tmp_path / "host", f"{host}/plugins")


@pytest.fixture
def publisher(machine: Machine, tmp_path: Path) -> Publisher:
    """A publisher whom the host believes."""
    someone = Publisher(machine, tmp_path / "publisher")
    someone.trusted_by(machine)
    return someone


@pytest.fixture
def repository(machine: Machine, publisher: Publisher, tmp_path: Path) -> str:
    """A release in the registry, and an SBOM attached to it by us, signed by us."""
    publisher.release("0.1.0")
    where = f"{machine.registry}/{PLUGIN_ID}"
    with opened(where, tmp_path) as there:
        sbom = attach(there, there.resolve("0.1.0"))
        attach(there, sbom.descriptor, artifact_type="text/signature", content=b"signed")
    return where


def tree(machine: Machine, ref: str) -> list[dict[str, Any]]:
    """What is attached, as we see it."""
    referrers: list[dict[str, Any]] = machine.json("discover", ref).document["referrers"]
    assert all(one["problem"] is None for one in referrers)
    return referrers


def digests(referrers: list[dict[str, Any]]) -> dict[str, object]:
    """The same as digests alone, for comparison."""
    return {one["digest"]: digests(one.get("referrers") or []) for one in referrers}


def seen_by_oras(folder: Path, *ref: str) -> dict[str, object]:
    """What is attached, as oras sees it."""
    found = json.loads(run("oras", "discover", "--format", "json", *ref, cwd=folder))
    return digests(found.get("referrers") or found.get("manifests") or [])


def test_oras_sees_what_we_attach_and_copy(
    machine: Machine, repository: str, tmp_path: Path
) -> None:
    """In the repository, in a copy, in a layout and in an archive: the tree that we see."""
    ours = digests(tree(machine, repository))
    assert ours
    copied, layout = f"{machine.registry}/copied/{PLUGIN_ID}", tmp_path / "layouts" / PLUGIN_ID
    digest = ""
    for target in (copied, f"oci:{layout}"):
        document = machine.json("copy", repository, target, "--with-referrers").document
        digest = document["digest"]
    machine.run("export", repository, "--output", tmp_path / "set.tar")
    plain = "--plain-http"
    assert seen_by_oras(tmp_path, plain, f"{repository}:0.1.0") == ours
    assert seen_by_oras(tmp_path, plain, f"{copied}:0.1.0") == ours
    assert seen_by_oras(tmp_path, "--oci-layout", f"{layout}:0.1.0") == ours
    assert seen_by_oras(tmp_path, "--oci-layout", f"{tmp_path}/set.tar@{digest}") == ours


def test_we_see_what_oras_attaches(machine: Machine, repository: str, tmp_path: Path) -> None:
    """Beside our own in the same list, in a registry and in a layout."""
    (tmp_path / "sbom.json").write_text("{}")
    before = len(tree(machine, repository))
    file = "sbom.json:application/json"
    run(
        *("oras", "attach", "--plain-http", "--artifact-type", "text/oras"),
        *(f"{repository}:0.1.0", file),
        cwd=tmp_path,
    )
    kinds = [one["artifact_type"] for one in tree(machine, repository)]
    assert len(kinds) == before + 1
    assert "text/oras" in kinds
    layout = tmp_path / "layouts" / PLUGIN_ID
    machine.run("copy", repository, f"oci:{layout}")
    run(
        *("oras", "attach", "--oci-layout", "--artifact-type", "text/oras"),
        *(f"{layout}:0.1.0", file),
        cwd=tmp_path,
    )
    assert [one["artifact_type"] for one in tree(machine, f"oci:{layout}")] == ["text/oras"]


def test_oras_copies_and_we_read(machine: Machine, repository: str, tmp_path: Path) -> None:
    """Registry to layout, our archive to a registry, both with what is attached."""
    ours = digests(tree(machine, repository))
    layout = tmp_path / "layouts" / PLUGIN_ID
    run(
        *("oras", "copy", "-r", "--from-plain-http", "--to-oci-layout"),
        *(f"{repository}:0.1.0", f"{layout}:0.1.0"),
        cwd=tmp_path,
    )
    assert digests(tree(machine, f"oci:{layout}")) == ours
    machine.run("export", repository, "--output", tmp_path / "set.tar")
    digest = machine.json("resolve", repository).document["digest"]
    restored = f"{machine.registry}/restored/{PLUGIN_ID}"
    run(
        *("oras", "copy", "-r", "--from-oci-layout", "--to-plain-http"),
        *(f"{tmp_path}/set.tar@{digest}", f"{restored}:0.1.0"),
        cwd=tmp_path,
    )
    assert digests(tree(machine, restored)) == ours
    machine.run("pull", restored)


def test_we_import_what_oras_backs_up(
    machine: Machine, repository: str, publisher: Publisher, tmp_path: Path
) -> None:
    """A tar file of oras', with its referrers, comes into another host's registry."""
    run(
        *("oras", "backup", "--plain-http", "--include-referrers"),
        *("--output", "backup.tar", f"{repository}:0.1.0"),
        cwd=tmp_path,
    )
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island)
    (row,) = island.json("import", tmp_path / "backup.tar").document["plugins"]
    assert row["ref"].endswith(":0.1.0")
    assert digests(tree(island, PLUGIN_ID)) == digests(tree(machine, repository))
    island.run("pull", PLUGIN_ID)


def test_crane_reads_what_we_write_and_we_what_it_does(
    machine: Machine, repository: str, tmp_path: Path
) -> None:
    """Digest, tags, a copy, and a pull to a layout."""
    digest = machine.json("resolve", repository).document["digest"]
    copied = f"{machine.registry}/copied/{PLUGIN_ID}"
    assert run("crane", "digest", f"{repository}:0.1.0", cwd=tmp_path).strip() == digest
    assert "0.1.0" in run("crane", "ls", repository, cwd=tmp_path).split()
    run("crane", "copy", f"{repository}:0.1.0", f"{copied}:0.1.0", cwd=tmp_path)
    assert machine.json("resolve", copied).document["digest"] == digest
    layout = tmp_path / "layouts" / PLUGIN_ID
    layout.parent.mkdir()
    run("crane", "pull", "--format", "oci", f"{repository}:0.1.0", layout, cwd=tmp_path)
    assert machine.json("resolve", f"oci:{layout}").document["digest"] == digest
    machine.run("copy", f"oci:{layout}", f"{machine.registry}/again/{PLUGIN_ID}")


def test_what_cosign_attaches_is_shown_and_copied(
    machine: Machine, repository: str, tmp_path: Path
) -> None:
    """A signature and an attestation: in the tree, and valid where they were copied to."""
    folder = tmp_path / "cosign"
    folder.mkdir()
    (folder / "predicate.json").write_text('{"built": "here"}')
    run("cosign", "generate-key-pair", cwd=folder)
    digest = machine.json("resolve", repository).document["digest"]
    # cosign speaks plain HTTP with a host of this name alone.
    ref = f"{repository.replace('127.0.0.1', 'localhost')}@{digest}"
    offline = ("--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry", "-y")
    run("cosign", "sign", "--key", "cosign.key", *offline, ref, cwd=folder)
    predicate = ("--predicate", "predicate.json", "--type", "custom")
    run("cosign", "attest", "--key", "cosign.key", *predicate, *offline, ref, cwd=folder)
    shown = machine.run("discover", repository).out
    assert shown.count(BUNDLE) == 2
    assert "https://sigstore.dev/cosign/sign/v1" in shown
    copied = f"{machine.registry}/copied/{PLUGIN_ID}"
    machine.run("copy", repository, copied, "--with-referrers")
    there = f"{copied.replace('127.0.0.1', 'localhost')}@{digest}"
    believed = ("--insecure-ignore-tlog=true", "--allow-http-registry", "--key", "cosign.pub")
    run("cosign", "verify", *believed, there, cwd=folder)
    run("cosign", "verify-attestation", "--type", "custom", *believed, there, cwd=folder)


@pytest.mark.parametrize("shared", [False, True])
def test_skopeo_carries_from_and_to_each_registry(
    machine: Machine, repository: str, tmp_path: Path, *, shared: bool
) -> None:
    """Our archive into the registry, and the registry into a layout of either kind."""
    assert shutil.which("skopeo"), "apt install skopeo"
    machine.run("export", repository, "--output", tmp_path / "set.tar")
    digest = machine.json("resolve", repository).document["digest"]
    copied = f"{machine.registry}/skopeo/{PLUGIN_ID}"
    (tmp_path / "layouts").mkdir()
    layout = f"{tmp_path}/layouts{':' if shared else '/'}{PLUGIN_ID}:0.1.0"
    for source, target in (
        (f"oci-archive:{tmp_path}/set.tar:{PLUGIN_ID}:0.1.0", f"docker://{copied}:0.1.0"),
        (f"docker://{copied}:0.1.0", f"oci:{layout}"),
    ):
        flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        subprocess.run(["skopeo", "copy", "--quiet", *flags, source, target], check=True)
    assert machine.json("resolve", copied).document["digest"] == digest
    found = machine.json("resolve", f"oci:{tmp_path}/layouts/{PLUGIN_ID}").document
    assert found["digest"] == digest
