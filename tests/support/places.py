"""An empty repository of every kind: what the contract suites run over."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.files import Files
from registry import (
    Anonymous,
    Credential,
    CredentialSource,
    Given,
    HttpLocation,
    HttpSettings,
    LayoutLocation,
    Location,
    Repository,
    open_repository,
)
from support.realm import token_realm
from support.referrers_api import referrers_api
from support.registry import PASSWORD, PLUGIN_ID, USER, docker_registry
from support.tls import Authority, nginx

KINDS = [
    "layout",
    "shared layout",
    "plain",
    "login",
    "token",
    "tls",
    "client certificate",
    "mirror",
    "referrers",
]


@dataclass(frozen=True)
class Place:
    """Where a repository is, and how it is spoken with.

    Attributes:
        location: Of the repository; empty.
        folder: Its blobs are here on the disk.
        credentials: Who may do all.
        http: How the registry wants to be spoken with.
        mirrors: In front of it.
    """

    location: Location
    folder: Path
    credentials: CredentialSource = field(default_factory=Anonymous)
    http: HttpSettings = field(default_factory=HttpSettings)
    mirrors: tuple[str, ...] = ()

    def open(self) -> Repository:
        """Open the repository."""
        return open_repository(
            self.location,
            files=Files(),
            http=self.http,
            credentials=self.credentials,
            mirrors=self.mirrors,
        )


@contextmanager
def registries_in(folder: Path) -> Iterator[Mapping[str, Place]]:
    """A docker-registry of each kind, for all tests; the place is the registry as a whole."""
    for kind in (*KINDS, "nginx", "proxy"):
        (folder / kind).mkdir()
    authority = Authority(folder)
    server, client = authority.pair("server"), authority.pair("client")
    own_ca = HttpSettings(plain_http=False, ca_file=authority.certificate)
    certified = replace(own_ca, client_cert=client.certificate, client_key=client.key)
    jane = Credential(USER, PASSWORD)
    with ExitStack() as stack:

        def run(kind: str, **settings: Any) -> str:
            return stack.enter_context(docker_registry(folder / kind, **settings))

        realm = stack.enter_context(token_realm(folder))
        hosts = {
            "plain": run("plain"),
            "login": run("login", login=True),
            "token": run("token", more=realm.lines()),
            "tls": run(
                "tls", http=f"tls: {{certificate: {server.certificate}, key: {server.key}}}"
            ),
            "client certificate": stack.enter_context(
                nginx(
                    folder / "nginx",
                    run("client certificate"),
                    server=server,
                    clients=authority.certificate,
                )
            ),
            "referrers": stack.enter_context(referrers_api(run("referrers"))).host,
        }
        hosts["mirror"] = run("mirror")
        proxy = [f"proxy: {{remoteurl: 'http://{hosts['mirror']}'}}"]
        mirrors = {"mirror": (run("proxy", more=proxy),)}
        who = {kind: Given(hosts[kind], jane) for kind in ("login", "token")}
        http = {"tls": own_ca, "client certificate": certified}
        yield {
            kind: Place(
                HttpLocation(host, "x"),
                folder / kind,
                who.get(kind, Anonymous()),
                http.get(kind, HttpSettings()),
                mirrors.get(kind, ()),
            )
            for kind, host in hosts.items()
        }


def place_of(kind: str, registries: Mapping[str, Place], folder: Path) -> Place:
    """An empty repository of a kind.

    Args:
        kind: One of ``KINDS``.
        registries: See ``registries_in``.
        folder: The test's own: layouts are below it.
    """
    if "layout" in kind:
        root = folder / "registry"
        if kind == "shared layout":
            root.mkdir()
            (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
            (root / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
        return Place(LayoutLocation(root, PLUGIN_ID), root)
    registry = registries[kind]
    assert isinstance(registry.location, HttpLocation)
    # A path of its own for every test: the registry lives for all of them.
    path = sha256(str(folder).encode()).hexdigest()[:12]
    return replace(registry, location=HttpLocation(registry.location.host, f"{path}/{PLUGIN_ID}"))
