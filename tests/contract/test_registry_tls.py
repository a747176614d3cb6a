"""TLS as registries have it: an authority of one's own, client certificates, proxies on the way."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    AuthenticationError,
    Descriptor,
    HttpLocation,
    HttpSettings,
    NetworkError,
    RegistryError,
    Repository,
    open_repository,
    push_artifact,
)
from support.registry import PLUGIN_ID, docker_registry, make_artifact, misbehaving, reply
from support.tls import Authority, Pair, nginx, tunnel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates are."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """Signs for the registries and their clients."""
    return Authority(folder)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    """The registries' certificate."""
    return authority.pair("server")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    """Ours."""
    return authority.pair("client")


@pytest.fixture(scope="module")
def own_ca(tmp_path_factory: pytest.TempPathFactory, server: Pair) -> Iterator[str]:
    """A docker-registry with TLS."""
    with docker_registry(tmp_path_factory.mktemp("registry"), http=server.http) as host:
        yield host


@pytest.fixture(scope="module", params=["docker-registry", "nginx"])
def for_clients(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    server: Pair,
) -> Iterator[str]:
    """A registry that lets in who shows a certificate: by itself, or behind nginx."""
    storage = tmp_path_factory.mktemp("registry")
    if request.param == "nginx":
        with (
            docker_registry(storage) as behind,
            nginx(
                tmp_path_factory.mktemp("nginx"),
                behind,
                server=server,
                clients=authority.certificate,
            ) as host,
        ):
            yield host
    else:
        tls = (
            f"tls: {{certificate: {server.certificate}, key: {server.key}, "
            f"clientcas: [{authority.certificate}]}}"
        )
        with docker_registry(storage, http=tls) as host:
            yield host


def open_at(host: str, settings: HttpSettings) -> Repository:
    """Open a repository."""
    location = HttpLocation(host, f"plugins/{PLUGIN_ID}")
    return open_repository(location, files=Files(), http=settings, credentials=Anonymous())


def test_its_own_authority_lets_a_registry_in(
    own_ca: str, authority: Authority, tmp_path: Path
) -> None:
    """Pushed and pulled with ``ca_file``, or with ``insecure``; with neither nothing is sent."""
    built = make_artifact(tmp_path)
    for settings in (
        HttpSettings(plain_http=False, ca_file=authority.certificate),
        HttpSettings(plain_http=False, insecure=True),
    ):
        with open_at(own_ca, settings) as repository:
            push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
            assert repository.manifest("0.1.0").raw == built.manifest_raw
            repository.fetch_blob(built.layers[0], tmp_path / "got")
    with (
        open_at(own_ca, HttpSettings(plain_http=False)) as repository,
        pytest.raises(NetworkError, match="--ca-file"),
    ):
        repository.tags()


def test_another_authority_does_not(own_ca: str, tmp_path: Path) -> None:
    """``ca_file`` stands in place of the system's authorities and is not beside the point."""
    settings = HttpSettings(plain_http=False, ca_file=Authority(tmp_path, "other").certificate)
    with open_at(own_ca, settings) as repository, pytest.raises(NetworkError, match="certificate"):
        repository.tags()


def test_a_certificate_for_another_name_does_not(own_ca: str, authority: Authority) -> None:
    """The host's name counts, not only who signed."""
    with tunnel(own_ca) as proxy:
        settings = HttpSettings(ca_file=authority.certificate, proxy=f"http://{proxy.host}")
        with (
            open_at("registry.example.com", settings) as repository,
            pytest.raises(NetworkError, match=r"(?i)hostname"),
        ):
            repository.tags()


def test_a_client_certificate_lets_us_in(
    for_clients: str, authority: Authority, client: Pair, tmp_path: Path
) -> None:
    """Pushed and pulled with it; certificate and key may be one file."""
    both = tmp_path / "both.pem"
    both.write_bytes(client.certificate.read_bytes() + client.key.read_bytes())
    built = make_artifact(tmp_path)
    for certificate, key in ((client.certificate, client.key), (both, None)):
        settings = HttpSettings(
            plain_http=False,
            ca_file=authority.certificate,
            client_cert=certificate,
            client_key=key,
        )
        with open_at(for_clients, settings) as repository:
            push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
            assert repository.manifest("0.1.0").raw == built.manifest_raw


@pytest.mark.parametrize("shown", ["none", "a stranger's"])
def test_without_it_the_way_in_is_told(
    for_clients: str, authority: Authority, tmp_path: Path, shown: str
) -> None:
    """Which keys of the config are missing, and for which host."""
    settings = HttpSettings(plain_http=False, ca_file=authority.certificate)
    if shown != "none":
        stranger = Authority(tmp_path, "stranger").pair("stranger's")
        settings = HttpSettings(
            plain_http=False,
            ca_file=authority.certificate,
            client_cert=stranger.certificate,
            client_key=stranger.key,
        )
    with (
        open_at(for_clients, settings) as repository,
        pytest.raises((AuthenticationError, NetworkError), match="client_cert") as caught,
    ):
        repository.tags()
    assert for_clients in str(caught.value)


def test_a_registry_is_reached_through_a_tunnel(
    own_ca: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS goes through a proxy untouched: it is told the host and its own password, no more."""
    with tunnel(own_ca) as proxy:
        settings = HttpSettings(
            ca_file=authority.certificate, proxy=f"http://joe:hunter2@{proxy.host}"
        )
        # The certificate is for localhost, to which no proxy is used.
        location = HttpLocation("registry.example.com", PLUGIN_ID)
        opened = open_repository(location, files=Files(), http=settings, credentials=Anonymous())
        with opened as repository, pytest.raises(NetworkError, match=r"(?i)hostname"):
            repository.tags()
        monkeypatch.setenv("https_proxy", f"http://{proxy.host}")
        insecure = HttpSettings(insecure=True)
        location = HttpLocation("registry.example.com:5000", PLUGIN_ID)
        opened = open_repository(location, files=Files(), http=insecure, credentials=Anonymous())
        with opened as repository, pytest.raises(RegistryError, match="NAME_UNKNOWN"):
            repository.tags()
    assert proxy.heads[0].startswith("CONNECT registry.example.com:443 HTTP/1.")
    assert "proxy-authorization: basic am9lomh1bnrlcji=" in proxy.heads[0].lower()
    assert proxy.heads[-1].startswith("CONNECT registry.example.com:5000 HTTP/1.")
    assert "authorization" not in proxy.heads[-1].lower()


NO_PROXIES = ["proxy", "socks5://h:1", "http://", "http://h:x", "://"]
NO_PROXIES += ["jane:hunter2@proxy.example:3128", "http://jane:hu/hunter2@proxy.example:3128"]
NO_PROXIES += ["http://jane:hu hunter2@proxy.example:0", "http://jane:h@hunter2@proxy.example:0"]


@pytest.mark.parametrize("proxy", NO_PROXIES)
def test_what_is_no_proxy_is_told(proxy: str) -> None:
    """Before any request, and as a setting; what may be its password is not shown."""
    with pytest.raises(RegistryError, match="cannot use the proxy") as caught:
        open_at("registry.example.com", HttpSettings(proxy=proxy))
    assert "hunter2" not in str(caught.value)
    assert "jane" not in str(caught.value)


def test_a_registry_s_settings_are_not_another_s(
    authority: Authority, server: Pair, client: Pair
) -> None:
    """A redirect's host is spoken with by its own settings: its certificate is looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    with misbehaving(context) as registry, misbehaving(context) as store:
        registry.route = lambda handler: reply(handler, 307, Location=f"https://{store.host}/x")
        store.route = lambda handler: reply(handler, 200, b'{"tags":["0.1.0"]}')
        loose = HttpSettings(plain_http=False, insecure=True, backoff_s=0)
        with open_at(registry.host, loose) as repository, pytest.raises(NetworkError):
            repository.tags()
        assert not store.requests
        asked: list[str] = []

        def others(host: str) -> HttpSettings:
            asked.append(host)
            return HttpSettings(ca_file=authority.certificate)

        with open_repository(
            HttpLocation(registry.host, PLUGIN_ID),
            files=Files(),
            http=HttpSettings(
                plain_http=False,
                ca_file=authority.certificate,
                client_cert=client.certificate,
                client_key=client.key,
            ),
            credentials=Anonymous(),
            others=others,
        ) as repository:
            assert repository.tags() == ("0.1.0",)
        assert set(asked) == {store.host}


def test_nothing_leads_out_of_https(authority: Authority, server: Pair) -> None:
    """Redirects and upload places without TLS are refused, also on the registry's own host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with misbehaving(context) as registry, misbehaving() as plain:
        for host in (plain.host, registry.host):
            registry.route = lambda handler, host=host: reply(
                handler,
                202 if handler.command == "POST" else 307,
                Location=f"http://{host}/x",
            )
            settings = HttpSettings(plain_http=False, ca_file=authority.certificate)
            with open_at(registry.host, settings) as repository:
                blob = Descriptor.of("application/wasm", b"blob")
                with pytest.raises(RegistryError, match="expected https"):
                    repository.push_blob(blob, b"blob")
                with pytest.raises(RegistryError, match="expected https"):
                    repository.read_blob(blob, max_bytes=4)
        assert not plain.requests
