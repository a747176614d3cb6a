"""Connections that are kept: shared by origin and settings, made anew when a TLS file is."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from registry import HttpSettings, KeptConnections, RegistryError

HTTP, HTTPS = "http://127.0.0.1:5000", "https://registry.example.com"


def test_one_pool_for_an_origin_and_its_settings() -> None:
    """Another origin or other settings never share a connection."""
    kept, settings = KeptConnections(), HttpSettings()
    pool = kept.to(HTTP, settings)
    assert kept.to(HTTP, HttpSettings()) == pool
    others = [
        kept.to("http://127.0.0.1:5001", settings),
        kept.to(HTTP, replace(settings, proxy="http://p")),
    ]
    assert len({id(manager) for manager in [pool, *others]}) == 3
    kept.close()
    assert kept.to(HTTP, settings) == pool


def test_a_replaced_tls_file_is_read_again(tmp_path: Path) -> None:
    """A renewed certificate counts from the next look, in a process that runs for months."""
    ca = tmp_path / "ca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x"]
    command += ["-keyout", str(tmp_path / "key.pem"), "-out", str(ca)]
    subprocess.run(command, check=True, capture_output=True)
    kept, settings = KeptConnections(), HttpSettings(ca_file=ca)
    pool = kept.to(HTTPS, settings)
    assert kept.to(HTTPS, settings) == pool
    renewed = tmp_path / "renewed.pem"
    renewed.write_bytes(ca.read_bytes())
    renewed.rename(ca)
    assert kept.to(HTTPS, settings) != pool
    ca.unlink()
    with pytest.raises(RegistryError, match=r"cannot use TLS files .*ca\.pem"):
        kept.to(HTTPS, settings)


def test_strangers_hosts_are_kept_in_small_number() -> None:
    """A registry that sends us to ever new hosts fills no memory; what is in use stays."""
    kept, settings = KeptConnections(), HttpSettings()
    pool = kept.to(HTTP, settings)
    for number in range(100):
        kept.to(f"http://127.0.0.1:{6000 + number}", settings)
        assert kept.to(HTTP, settings) is pool
    assert len(kept._kept) == 32
