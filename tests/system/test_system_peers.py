"""Other tools at both ends: skopeo copies what we push, openssl checks what we fetch."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from support.system import PLUGIN_ID, STEM, Machine, Publisher


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a tool."""
    return subprocess.run([*map(str, command)], capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("tag", [":0.2.0", ""])
def test_a_copy_by_skopeo_is_pulled(
    machine: Machine, publisher: Publisher, tmp_path: Path, tag: str
) -> None:
    """From docker-registry by skopeo to an ``oci:`` folder, from there by the agent."""
    pushed = publisher.release("0.2.0")
    folder = tmp_path / "copied"
    folder.mkdir()
    source = f"docker://{machine.registry}/{PLUGIN_ID}:0.2.0"
    copied = run(
        "skopeo", "copy", "--src-tls-verify=false", source, f"oci:{folder}/{PLUGIN_ID}{tag}"
    )
    assert copied.returncode == 0, copied.stderr
    row = machine.json("pull", f"oci:{folder}/{PLUGIN_ID}").row
    assert (row["digest"], row["release"]) == (pushed["digest"], pushed["release"])
    assert machine.json("list").row["source"] == f"oci:{folder}/{PLUGIN_ID}"
    assert machine.json("update").row["outcome"] == "current"


def test_what_output_writes_is_checked_by_openssl(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """``pull --output`` writes verified files, installs nothing; openssl accepts the ``.sig``."""
    folder = publisher.plugin("0.2.0")
    (folder / "README.md").write_text("# Hello\n", encoding="utf-8")
    pushed = publisher.push(folder)
    output = tmp_path / "fetched"
    row = machine.json("pull", PLUGIN_ID, "--output", output).row
    assert (row["outcome"], row["to"], row["release"]) == ("fetched", "0.2.0", pushed["release"])
    names = ["README.md", f"{STEM}.sig", f"{STEM}.toml", f"{STEM}.wasm"]
    assert sorted(path.name for path in output.iterdir()) == names
    for name in names:
        assert (output / name).read_bytes() == (folder / name).read_bytes()
    assert machine.json("list").document["plugins"] == []

    manifest = hashlib.sha256((output / f"{STEM}.toml").read_bytes()).hexdigest()
    payload = hashlib.sha256((output / f"{STEM}.wasm").read_bytes()).hexdigest()
    statement = tmp_path / "statement"
    statement.write_text(
        "stack-composer-plugin/v1\n"
        f"id: {PLUGIN_ID}\n"
        "version: 0.2.0\n"
        f"manifest-sha256: {manifest}\n"
        f"payload-sha256: {payload}\n",
        encoding="ascii",
    )
    assert hashlib.sha256(statement.read_bytes()).hexdigest() == pushed["release"]
    signature = tmp_path / "signature"
    signature.write_bytes(bytes.fromhex((output / f"{STEM}.sig").read_text(encoding="ascii")))
    verify = ("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", publisher.public, "-rawin")
    assert run(*verify, "-in", statement, "-sigfile", signature).returncode == 0
    statement.write_bytes(statement.read_bytes().replace(b"0.2.0", b"0.2.1"))
    assert run(*verify, "-in", statement, "-sigfile", signature).returncode != 0


def test_a_refused_artifact_is_not_written_out(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """``pull --output`` of what nobody signed that we know: 7, and no file."""
    assert publisher.key_id
    stranger = Publisher(machine, tmp_path / "stranger", "stranger")
    stranger.push(stranger.plugin("0.2.0"))
    output = tmp_path / "fetched"
    assert machine.json("pull", PLUGIN_ID, "--output", output, expect=7).row["step"] == "verify"
    assert not output.exists()


def test_a_signature_by_openssl_is_accepted(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """A publisher without our tools: statement by hand, key and signature by openssl."""
    key, public = tmp_path / "openssl.pem", tmp_path / "openssl.pub"
    assert run("openssl", "genpkey", "-algorithm", "ed25519", "-out", key).returncode == 0
    assert run("openssl", "pkey", "-in", key, "-pubout", "-out", public).returncode == 0
    folder = publisher.plugin("0.1.0")
    manifest = hashlib.sha256((folder / f"{STEM}.toml").read_bytes()).hexdigest()
    payload = hashlib.sha256((folder / f"{STEM}.wasm").read_bytes()).hexdigest()
    statement, signature = tmp_path / "statement", tmp_path / "signature"
    statement.write_text(
        f"stack-composer-plugin/v1\nid: {PLUGIN_ID}\nversion: 0.1.0\n"
        f"manifest-sha256: {manifest}\npayload-sha256: {payload}\n",
        encoding="ascii",
    )
    sign = ("openssl", "pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", statement)
    assert run(*sign, "-out", signature).returncode == 0
    (folder / f"{STEM}.sig").write_text(signature.read_bytes().hex(), encoding="ascii")
    machine.run("verify", folder, expect=7)
    machine.run("trust", "add", public, "--owner", "by-hand", "--scope", "org.example.*")
    assert machine.json("verify", folder).document["owner"] == "by-hand"
    machine.run("push", folder)
    assert machine.json("pull", PLUGIN_ID).row["outcome"] == "committed"
