"""A token server for docker-registry: it checks who asks, signs, and remembers what was asked."""

import base64
import contextlib
import datetime as dt
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from support.registry import PASSWORD, USER, Misbehaving, misbehaving, reply

ISSUER, SERVICE = "test-issuer", "test-registry"
IDENTITY_TOKEN = "identity-token-of-jane"
# docker-registry takes a token for a minute longer than it says.
_LEEWAY_S = 60


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class TokenRealm:
    """Who may do what, and what was asked.

    Attributes:
        server: It listens here.
        certificate: What docker-registry believes tokens by.
        lasts_s: What it says of how long a token lasts.
        stale: How many of the next tokens are expired when they are given.
        asked: The scopes of each request.
        who: How each request said who asks: ``anonymous``, ``basic`` or ``refresh``.
    """

    server: Misbehaving
    certificate: Path
    lasts_s: int = 300
    stale: int = 0
    asked: list[list[str]] = field(default_factory=list)
    who: list[str] = field(default_factory=list)
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def url(self) -> str:
        """What a challenge calls it."""
        return f"http://{self.server.host}/token"

    def lines(self) -> list[str]:
        """Of a docker-registry's configuration."""
        keys = f"realm: '{self.url}', service: {SERVICE}, issuer: {ISSUER}"
        return [f"auth: {{token: {{{keys}, rootcertbundle: {self.certificate}}}}}"]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Give a token for what may be had: everyone may pull, Jane may push; 401 for others."""
        request = self.server.requests[-1]
        given = parse_qs(urlsplit(request.path).query or request.body.decode())
        scopes = [one for scope in given.get("scope", []) for one in scope.split()]
        said = request.headers.get("Authorization")
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.method == "POST":
            who = "refresh" if given.get("refresh_token") == [IDENTITY_TOKEN] else None
        else:
            who = {None: "anonymous", basic: "basic"}.get(said)
        self.asked.append(scopes)
        self.who.append(who or "stranger")
        if who is None or given.get("service") != [SERVICE]:
            reply(handler, 401, b'{"details":"incorrect username or password"}')
            return
        access = list[dict[str, object]]()
        for scope in scopes:
            kind, name, actions = scope.rsplit(":", 2) if scope.count(":") > 1 else ("", "", "")
            allowed = [a for a in actions.split(",") if who != "anonymous" or a == "pull"]
            access.append({"type": kind, "name": name, "actions": allowed})
        body = {"token": self._token(access), "expires_in": self.lasts_s}
        reply(handler, 200, json.dumps(body).encode(), Content_Type="application/json")

    def _token(self, access: list[dict[str, object]]) -> str:
        """A JWT, RS256, whose header holds the certificate."""
        now = int(time.time())
        ends = now + self.lasts_s
        if self.stale:
            self.stale -= 1
            ends = now - 2 * _LEEWAY_S
        chain = [base64.b64encode(self._certificate().public_bytes(Encoding.DER)).decode()]
        claims = {
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "exp": ends,
            "nbf": now - 600,
            "iat": now - 600,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": chain}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_base64url(signature)}"

    def _certificate(self) -> x509.Certificate:
        if not self.certificate.exists():
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
            now = dt.datetime.now(dt.UTC)
            made = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(name)
                .public_key(self._key.public_key())
                .serial_number(1)
                .not_valid_before(now - dt.timedelta(days=1))
                .not_valid_after(now + dt.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .sign(self._key, hashes.SHA256())
            )
            self.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


@contextlib.contextmanager
def token_realm(folder: Path) -> Iterator[TokenRealm]:
    """Run a realm that keeps its certificate in a folder."""
    with misbehaving() as server:
        realm = TokenRealm(server, folder / "tokens.crt")
        realm._certificate()
        server.route = realm.answer
        yield realm
