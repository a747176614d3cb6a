"""What happens when: the command line, the update pipeline, the plugin tree, the host.

Embedders need one name: ``from agent import PluginHost``. It is loaded on first use, so that
the command line starts without the sandbox.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.host import PluginHost

__version__ = "0.1.0"
__all__ = ["PluginHost", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of a module attribute
    if name == "PluginHost":
        from agent.host import PluginHost

        return PluginHost
    raise AttributeError(f"module 'agent' has no attribute {name!r}")
