"""How to speak HTTP to registries. Plain values; the defaults are here."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """What the transport obeys.

    Attributes:
        plain_http: ``http://`` instead of ``https://``; ``None``: for loopback hosts only.
        insecure: Accept any TLS certificate. Never means plain HTTP.
        ca_file: PEM certificates to trust instead of the system's.
        client_cert: PEM certificate to show.
        client_key: Its PEM key, where it is not in the same file.
        connect_timeout_s: For one connection, TLS included.
        read_timeout_s: For one silence of the other side.
        total_timeout_s: For one operation with its retries, its data's transfer not counted.
        min_bytes_per_s: A transfer slower than this, on the whole or for as long as
            ``read_timeout_s``, is given up.
        attempts: How often an operation that may be repeated is tried at most.
        backoff_s: The first pause between two attempts; it doubles, with jitter.
        max_retry_after_s: The longest pause a registry can ask for.
        proxy: URL of a proxy; empty: the environment's. Loopback hosts use none.
    """

    plain_http: bool | None = None
    insecure: bool = False
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    connect_timeout_s: float = 10
    read_timeout_s: float = 30
    total_timeout_s: float = 60
    min_bytes_per_s: float = 16 << 10
    attempts: int = 3
    backoff_s: float = 0.25
    max_retry_after_s: float = 10
    proxy: str = ""

    def elsewhere(self) -> Self:
        """The settings for another host than the one that these are for.

        What concerns this one alone is left out: its client certificate, and that its own
        certificate is not looked at.
        """
        return replace(self, plain_http=None, insecure=False, client_cert=None, client_key=None)
