"""A release pushed on to another place of the same registry."""

from support.system import PLUGIN_ID, CountedRegistry, Machine, Publisher


def test_a_release_is_pushed_on_without_its_blobs(
    machine: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """From where its id belongs to a place beside it: the registry mounts what it has."""
    folder = publisher.plugin("0.1.0")
    pushed = publisher.push(folder)
    docker.requests()
    other = f"{machine.registry}/production/{PLUGIN_ID}"
    assert publisher.push(folder, "--to", other)["digest"] == pushed["digest"]
    requests = docker.requests()
    uploads = [path for method, path in requests if "/blobs/uploads/" in path]
    assert uploads
    assert all("mount=sha256" in path for path in uploads)
    assert [method for method, path in requests if "/blobs/uploads/" in path] == ["POST"] * len(
        uploads
    )
    machine.run("pull", f"{other}:0.1.0")
