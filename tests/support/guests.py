"""WASI programs that others wrote, published and installed as plugins."""

from pathlib import Path

from support.system import PLUGIN_ID, STEM, Machine, Publisher

ROOM = """[limits]
fuel_units = 1000000000
[capabilities]
grant = ["log", "fs_read"]
"""
"""What such a program may need: it starts up a whole runtime, and reads files."""


def install(
    machine: Machine,
    publisher: Publisher,
    code: Path,
    *,
    entry: str = "_start",
    exports: str = "",
    instance: str = "fresh",
) -> Path:
    """Publish a program as it is and install it; returns the folder of its data.

    Args:
        machine: The host.
        publisher: Signs it.
        code: The module.
        entry: What the manifest names.
        exports: ``[exports]`` tables.
        instance: ``fresh`` or ``reused``.
    """
    folder = publisher.folder / code.stem
    folder.mkdir()
    (folder / f"{STEM}.wasm").write_bytes(code.read_bytes())
    (folder / f"{STEM}.toml").write_text(
        f'[plugin]\nid = "{PLUGIN_ID}"\nversion = "0.1.0"\nwasm_target = "wasm32-wasi"\n'
        f'signature = "file:{STEM}.sig"\ncapabilities = ["log", "fs_read"]\n'
        f'entry = "{entry}"\ninstance = "{instance}"\n'
        f'[meta]\nname = "{code.stem}"\n{exports}',
        encoding="utf-8",
    )
    publisher.push(folder)
    machine.configure(ROOM)
    machine.run("pull", PLUGIN_ID)
    data = machine.home / "data" / PLUGIN_ID
    data.mkdir(parents=True)
    return data
