"""The flat sets of the system's plugin folder, which a user's agent runs and never changes."""

from collections.abc import Callable
from pathlib import Path

from agent.context import Context
from sandbox.discovery import find_sets, read_texts
from sandbox.errors import SandboxError
from sandbox.manifest import PluginManifest

Warn = Callable[[str], None]


def is_in_system(context: Context, plugin_id: str) -> bool:
    """Whether the system's folder has a plugin too, or alone."""
    return plugin_id in system_sets(context, lambda _: None)


def system_sets(context: Context, warn: Warn) -> dict[str, tuple[Path, PluginManifest]]:
    """Id → the manifest of a flat set in the system's folder, the first of each id."""
    if context.system_folder == context.plugins_folder:
        return {}
    try:
        paths = find_sets(context.system_folder)
    except SandboxError as error:
        warn(str(error))
        return {}
    found: dict[str, tuple[Path, PluginManifest]] = {}
    for path in paths:
        try:
            manifest = context.parse_manifest(read_texts(path).manifest, path.name)
        except SandboxError as error:
            warn(f"{path} is passed over: {error}")
            continue
        found.setdefault(manifest.id, (path, manifest))
    return found
