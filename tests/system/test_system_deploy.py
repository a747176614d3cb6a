"""``deploy/``: configs, container, compose file and collector are what their readers take."""

import json
import re
from pathlib import Path
from typing import Any

import dockerfile
import jsonschema
import pytest
import yaml

from support.system import Machine

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINER = DEPLOY / "container"
COMPOSE = DEPLOY / "compose.yml"
SCHEMA = ROOT / "tests/support/schemas/compose-spec.json"
CONFIGS = (*sorted((DEPLOY / "config").glob("*.toml")), CONTAINER / "plugin-host.toml")


def parsed(path: Path) -> dict[str, Any]:
    """A YAML file."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def problems(document: object) -> list[str]:
    """What the Compose Specification's schema has against a document."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [error.message for error in found]


def build() -> list[dockerfile.Command]:
    """The instructions of the Containerfile, as BuildKit's own parser reads them."""
    return list(dockerfile.parse_file(str(CONTAINER / "Containerfile")))


def last(word: str) -> tuple[str, ...]:
    """The words of an instruction's last occurrence."""
    return tuple([command.value for command in build() if command.cmd == word][-1])


# -- example configs


def test_there_are_configs_for_each_kind_of_machine() -> None:
    """Laptop, server and air gap."""
    assert {path.stem for path in CONFIGS} == {"air-gap", "laptop", "plugin-host", "server"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_sound(machine: Machine, path: Path) -> None:
    """The agent takes every key of it, and nothing in it never counts."""
    ran = machine.run("config", "check", "--config", path)
    assert (ran.out, ran.err) == (f"{path}: sound\n", "")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_it_is_for(path: Path) -> None:
    """The first line says where it goes, and no section is without a word on its keys."""
    head, *sections = re.split(r"^\[", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert head.startswith("# ")
    assert sections


def test_the_air_gap_asks_nobody(machine: Machine) -> None:
    """With that config a registry is not asked even where it is named."""
    config = DEPLOY / "config" / "air-gap.toml"
    assert machine.registry is not None
    ran = machine.run("tags", f"{machine.registry}/org.example.hello", "--config", config, expect=5)
    assert "offline" in ran.err


# -- compose


def test_the_compose_file_keeps_to_the_specification() -> None:
    """The Compose Specification's own schema has nothing against it."""
    assert problems(parsed(COMPOSE)) == []


@pytest.mark.parametrize("at", [(), ("agent",), ("agent", "build")])
def test_a_slip_in_the_compose_file_is_told(at: tuple[str, ...]) -> None:
    """A key that is none is found at any depth."""
    document = parsed(COMPOSE)
    place = document["services"] if at else document
    for name in at:
        place = place[name]
    place["restrat"] = "always"
    assert any("restrat" in problem for problem in problems(document))


def test_what_the_compose_file_names_is_there() -> None:
    """Services, volumes, and files of ours that are shown to a container."""
    document = parsed(COMPOSE)
    services = document["services"]
    assert set(services) == {"agent", "registry", "collector"}
    assert set(services["agent"]["depends_on"]) == set(services) - {"agent"}
    sources = {
        volume.split(":")[0] for service in services.values() for volume in service["volumes"]
    }
    files = {source for source in sources if source.startswith("./")}
    assert sources - files == set(document["volumes"])
    assert {name for name in files if not (DEPLOY / name).is_file()} == set()
    context = DEPLOY / services["agent"]["build"]["context"]
    assert (context / services["agent"]["build"]["dockerfile"]).is_file()


def test_the_containers_find_each_other(machine: Machine) -> None:
    """The agent's config names the registry and the collector's port as the compose file does."""
    config = CONTAINER / "plugin-host.toml"
    rows = machine.json("config", "show", "--effective", "--config", config).document["values"]
    values = {row["key"]: row["value"] for row in rows}
    receiver = parsed(CONTAINER / "collector.yaml")["receivers"]["otlp"]["protocols"]["http"]
    port = receiver["endpoint"].rpartition(":")[2]
    assert values["telemetry.endpoint"] == f"http://collector:{port}"
    assert values["registry.default"] == "registry:5000/plugins"
    services = parsed(COMPOSE)["services"]
    assert services["registry"]["ports"] == ["127.0.0.1:5000:5000"]
    assert (
        "./container/plugin-host.toml:/data/config/plugin-host.toml:ro"
        in (services["agent"]["volumes"])
    )


def test_the_collector_keeps_all_signals() -> None:
    """Each pipeline runs through parts that are set up, and no part is idle."""
    document = parsed(CONTAINER / "collector.yaml")
    pipelines = document["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics", "logs"}
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline[kind]}
        assert used == set(document[kind])
    # It refuses before it runs out of memory, which counts only as the first of all.
    assert {pipeline["processors"][0] for pipeline in pipelines.values()} == {"memory_limiter"}


# -- the container


def test_what_the_container_is_made_of_is_there() -> None:
    """Each file and folder that is copied in exists; what the wheel holds is copied."""
    copied = {
        source.rstrip("/")
        for command in build()
        if command.cmd == "COPY" and not any(flag.startswith("--from") for flag in command.flags)
        for source in command.value[:-1]
    }
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    assert copied >= {"registry", "trust", "sandbox", "agent", "sdk", "pyproject.toml"}


def test_the_container_runs_the_service_as_nobody_else() -> None:
    """Not as root, without a shell before it, and all that it keeps lies in the volume."""
    assert last("USER") == ("10001:10001",)
    assert (last("ENTRYPOINT"), last("CMD")) == (("agent",), ("run",))
    words = last("ENV")
    environment = dict(zip(words[::2], words[1::2], strict=True))
    assert last("VOLUME") == (environment["STACK_COMPOSER_HOME"],)
    for command in build():
        assert command.json or command.cmd not in {"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"}


def test_the_container_is_asked_how_it_is(machine: Machine) -> None:
    """Its health is what the service itself says; each verb is one, with its flags."""
    word, agent, *status = last("HEALTHCHECK")
    assert (word, agent) == ("CMD", "agent")
    assert machine.run(*status, expect=3).err.startswith("agent: cannot find the service")
    machine.run(*last("CMD"), "--help")
