"""Many plugins on one machine, each with an ID and a stem of its own."""

from pathlib import Path

from support.system import Machine, Publisher


def plugin_id(number: int) -> str:
    """The ID of one of them."""
    return f"org.example.p{number}"


def install(machine: Machine, folder: Path, count: int) -> None:
    """Publish and pull them.

    Args:
        machine: The machine, which knows the registry.
        folder: For the publisher.
        count: How many.
    """
    publisher = Publisher(machine, folder / "publisher")
    publisher.trusted_by(machine)
    for number in range(count):
        publisher.release("0.1.0", plugin_id=plugin_id(number), stem=f"p{number}-plugin")
        machine.run("pull", plugin_id(number))
