"""The service and registries that are away, hang or lie: one's fault is no other's."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path

from support.registry import docker_registry, misbehaving, reply
from support.service import EAGER, Frail, service, serving
from support.system import PLUGIN_ID, Machine, Publisher

FAR = "org.example.far"
_MORE_THAN_TURNS = 6


def namespaces(host: str) -> str:
    """Have the plugins of ``FAR`` come from elsewhere."""
    return f'[registry.namespaces]\n"{FAR}" = "{host}/far"\n'


def installed_from_afar(machine: Machine, publisher: Publisher, count: int) -> list[str]:
    """Plugins of a registry that was there once; their ids."""
    folder = machine.home.parent / "far"
    folder.mkdir()
    ids = [f"{FAR}.p{number}" for number in range(count)]
    with docker_registry(folder) as host:
        for plugin_id in ids:
            stem = plugin_id.rpartition(".")[2]
            plugin = publisher.plugin("0.1.0", plugin_id=plugin_id, stem=stem)
            publisher.push(plugin, "--to", f"{host}/far/{plugin_id}:0.1.0")
            machine.run("pull", f"{host}/far/{plugin_id}")
    return ids


def test_a_registry_that_hangs_delays_nobody_else(machine: Machine, frail: Frail) -> None:
    """More plugins than are looked at at once wait for it; that of another one is updated."""
    ids = installed_from_afar(machine, frail.publisher, _MORE_THAN_TURNS)
    with misbehaving() as hanging:

        def never_answer(handler: BaseHTTPRequestHandler) -> None:
            hanging.over.wait()
            handler.close_connection = True

        hanging.route = never_answer
        machine.configure(
            f"{namespaces(hanging.host)}{Frail.section()}", probation="0s", update=EAGER
        )
        with service(machine) as running:
            running.until(lambda: hanging.requests or None, "request that is never answered")
            frail.release("0.2.0")
            running.await_event("committed", "0.2.0")
            frail.release("0.3.0")
            running.await_event("committed", "0.3.0")
            assert not any("far" in line for line in running.log.lines[2:])
            hanging.over.set()
            for plugin_id in ids:
                running.await_why("cannot", plugin_id=plugin_id)


def lie(handler: BaseHTTPRequestHandler) -> None:
    """Offers a version, and sends for it what nobody can use."""
    path = handler.path.partition("?")[0]
    if path.endswith("/tags/list"):
        repository = path.removeprefix("/v2/").removesuffix("/tags/list")
        tags = b'{"name": "%s", "tags": ["0.9.0"]}' % repository.encode()
        reply(handler, 200, tags, Content_Type="application/json")
    elif path.endswith("/manifests/0.9.0"):
        reply(
            handler,
            200,
            b'{"schemaVersion": 2, "layers": [' + b"[" * 10_000,
            Content_Type="application/vnd.oci.image.manifest.v1+json",
            Docker_Content_Digest=f"sha256:{'0' * 64}",
        )
    else:
        reply(handler, 200, b"\0" * 1000)


def test_a_registry_that_lies_changes_nothing(
    machine: Machine, frail: Frail, tmp_path: Path
) -> None:
    """Its plugin serves on and says why; a forged version in another one blocks no genuine one."""
    (far,) = installed_from_afar(machine, frail.publisher, 1)
    forger = Publisher(Machine(tmp_path / "elsewhere", machine.registry), tmp_path / "f", "forger")
    with misbehaving() as lying:
        lying.route = lie
        machine.configure(
            f"{namespaces(lying.host)}{Frail.section()}", probation="0s", update=EAGER
        )
        forger.release("99.0.0")
        frail.release("0.2.0")
        with service(machine) as running:
            running.await_event("committed", "0.2.0")
            running.await_why("0.9.0", plugin_id=far)
            running.await_why("99.0.0: refused before: cannot trust")
            frail.release("0.3.0")
            running.await_event("committed", "0.3.0")
    assert serving(machine, far)[0].version == "0.1.0"


def test_what_was_missed_while_a_registry_was_away_is_not_lost(tmp_path: Path) -> None:
    """Away for the whole of a window: said, tried again; when it is back all is taken."""
    storage = tmp_path / "storage"
    storage.mkdir()
    with docker_registry(storage) as host:
        machine = Machine(tmp_path / "host", host)
        publisher = Publisher(Machine(tmp_path / "author", host), tmp_path / "publisher")
        publisher.trusted_by(machine)
        machine.configure("", probation="0s", update=EAGER)
        publisher.release("0.1.0")
        machine.run("pull", PLUGIN_ID)
        publisher.release("0.2.0")

    with service(machine) as running:
        running.log.wait_for("failed at check: cannot reach")
        running.await_why("cannot reach")
        assert serving(machine)[0].version == "0.1.0"
        with docker_registry(storage, address=host) as again:
            assert again == host
            running.await_event("committed", "0.2.0")
            publisher.release("0.4.0")
            running.await_event("committed", "0.4.0")
