"""Where a plugin's own data lies, which updates never touch."""

from pathlib import Path

from agent.settings.config import Config
from agent.settings.places import Places
from agent.settings.reaching import optional_path


def data_dir(config: Config, places: Places, plugin_id: str) -> Path:
    """What a plugin sees under ``/plugin/data`` with ``fs_read``."""
    chosen = optional_path(config.plugin(plugin_id).data_dir, places.home)
    return chosen or places.data / plugin_id
