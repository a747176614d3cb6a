"""A signature can be made and checked with ``sha256sum`` and ``openssl`` alone (section 3)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support.trust import NOW, store, trusted
from trust import Evidence, PrivateKey, Subject, parse_public, sign, verify

MANIFEST = b'[plugin]\nid = "org.example.hello"\n'
PAYLOAD = b"\0asm\x01\0\0\0"

STATEMENT_SH = r"""
m=$(sha256sum hello-plugin.toml | cut -d' ' -f1)
w=$(sha256sum hello-plugin.wasm | cut -d' ' -f1)
printf 'stack-composer-plugin/v1\nid: %s\nversion: %s\nmanifest-sha256: %s\npayload-sha256: %s\n' \
    org.example.hello 0.1.0 "$m" "$w" > statement
"""
SIGN_SH = r"""
openssl genpkey -algorithm ed25519 -out key
openssl pkey -in key -pubout -out key.pub
openssl pkeyutl -sign -inkey key -rawin -in statement -out raw
od -An -v -tx1 raw | tr -d ' \n' > hello-plugin.sig
"""
CHECK_SH = r"""
sed 's/../\\x&/g' hello-plugin.sig | tr -d '\n' > escaped
printf "$(cat escaped)" > raw
openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in statement -sigfile raw
"""


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in bash, whose printf can write any byte."""
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, "-eu", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a plugin folder with code and manifest, and the statement made by the shell."""
    (tmp_path / "hello-plugin.toml").write_bytes(MANIFEST)
    (tmp_path / "hello-plugin.wasm").write_bytes(PAYLOAD)
    made = shell(STATEMENT_SH, tmp_path)
    assert made.returncode == 0, made.stderr
    return tmp_path


def the_subject(folder: Path) -> Subject:
    """Return the release, its digests those that ``sha256sum`` printed."""
    lines = (folder / "statement").read_text().splitlines()
    return Subject("org.example.hello", "0.1.0", lines[3].split()[1], lines[4].split()[1])


def test_the_shell_builds_the_statement_we_build(folder: Path) -> None:
    """The statement needs no program of ours."""
    assert the_subject(folder).statement == (folder / "statement").read_bytes()


def test_we_believe_what_openssl_signed(folder: Path) -> None:
    """Keys and signatures of openssl are ours: PEM read, hex read, verdict accepted."""
    made = shell(SIGN_SH, folder)
    assert made.returncode == 0, made.stderr
    public = parse_public((folder / "key.pub").read_bytes())
    evidence = Evidence((folder / "hello-plugin.sig").read_bytes())
    verdict = verify(the_subject(folder), evidence, store(trusted(public)), NOW)
    assert verdict.accepted
    assert verdict.binding == "v1"


def test_openssl_believes_what_we_signed(folder: Path) -> None:
    """Our keys and signatures are openssl's, and it refuses them over an edited statement."""
    key = PrivateKey.generate()
    (folder / "key.pub").write_bytes(key.public.to_pem())
    (folder / "hello-plugin.sig").write_bytes(sign(the_subject(folder), key))
    checked = shell(CHECK_SH, folder)
    assert checked.returncode == 0, checked.stderr
    assert "Signature Verified Successfully" in checked.stdout

    statement = (folder / "statement").read_bytes()
    (folder / "statement").write_bytes(statement.replace(b"0.1.0", b"0.1.1"))
    assert shell(CHECK_SH, folder).returncode == 1


def test_openssl_reads_our_private_key(folder: Path) -> None:
    """What ``agent keygen`` writes, openssl signs with, byte for byte as we do."""
    key = PrivateKey.generate()
    (folder / "key").write_bytes(key.to_pem())
    signed = shell("openssl pkeyutl -sign -inkey key -rawin -in statement -out raw", folder)
    assert signed.returncode == 0, signed.stderr
    assert (folder / "raw").read_bytes() == key.sign((folder / "statement").read_bytes())
