"""An authority of our own, certificates of it, and what speaks TLS with them: nginx, a tunnel."""

import contextlib
import datetime as dt
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

_WAIT_S = 60


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: Path
    key: Path

    @property
    def http(self) -> str:
        """A key of a docker-registry's ``http`` section."""
        return f"tls: {{certificate: {self.certificate}, key: {self.key}}}"


class Authority:
    """Signs certificates; its own is ``folder/NAME.crt``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        made = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = folder / f"{name}.crt"
        signed = made.sign(self._key, hashes.SHA256())
        self.certificate.write_bytes(signed.public_bytes(Encoding.PEM))

    def pair(self, name: str, *, passphrase: bytes | None = None) -> Pair:
        """Make a certificate for this machine's loopback address, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
        made = (
            _builder(_name(name), self._name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        hidden = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
        return pair


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


@contextlib.contextmanager
def nginx(
    folder: Path,
    behind: str,
    *,
    server: Pair | None = None,
    clients: Path | None = None,
    max_body: str = "0",
) -> Iterator[str]:
    """Run nginx in front of a registry; yields its ``host:port``.

    Args:
        folder: Existing; its own.
        behind: The registry's ``host:port``.
        server: Speak TLS with this certificate.
        clients: Let those in only whose certificate is of this authority.
        max_body: The largest request body; 0 = any.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        tls = ""
        if server is not None:
            tls = f"ssl_certificate {server.certificate}; ssl_certificate_key {server.key};"
        if clients is not None:
            tls += f" ssl_client_certificate {clients}; ssl_verify_client on;"
        temporary = " ".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"""
            daemon off; user root; worker_processes 1;
            pid {folder}/pid; error_log {folder}/error.log;
            events {{ }}
            http {{
                access_log off; {temporary}
                server {{
                    listen 127.0.0.1:{port}{" ssl" if server else ""}; {tls}
                    client_max_body_size {max_body};
                    location / {{
                        proxy_pass http://{behind};
                        proxy_request_buffering off; proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header X-Forwarded-Proto $scheme;
                    }}
                }}
            }}
            """,
            encoding="utf-8",
        )
        # It takes over the socket that is open already, so no port has to be guessed.
        descriptor = listening.fileno()
        with subprocess.Popen(
            [program, "-p", str(folder), "-c", str(folder / "nginx.conf")],
            env={**os.environ, "NGINX": f"{descriptor};"},
            pass_fds=[descriptor],
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield f"127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(_WAIT_S)


@dataclass
class Tunnel:
    """A proxy that tunnels: ``CONNECT`` and nothing else.

    Attributes:
        host: ``127.0.0.1:port``.
        heads: The request lines and headers that it was sent.
    """

    host: str
    heads: list[str]


@contextlib.contextmanager
def tunnel(target: str) -> Iterator[Tunnel]:
    """Run a proxy that leads everyone to one ``host:port``, whatever they ask for."""
    address, _, port = target.rpartition(":")
    with contextlib.ExitStack() as open_sockets, socket.create_server(("127.0.0.1", 0)) as server:
        running = Tunnel(f"127.0.0.1:{server.getsockname()[1]}", [])
        threads: list[threading.Thread] = []

        def relay(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)

        def start(*arguments: socket.socket) -> None:
            threads.append(threading.Thread(target=relay, args=arguments))
            threads[-1].start()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = open_sockets.enter_context(server.accept()[0])
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += client.recv(65536)
                    running.heads.append(head.decode())
                    upstream = socket.create_connection((address, int(port)), timeout=_WAIT_S)
                    open_sockets.enter_context(upstream)
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    start(client, upstream)
                    start(upstream, client)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield running
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join(_WAIT_S)
            open_sockets.close()
            for thread in threads:
                thread.join(_WAIT_S)
