"""Whether a sealed release can serve on this host, now: verified, compiled, its imports there."""

import contextlib

from agent.context import Context
from agent.errors import FormatError
from agent.model import Generation
from sandbox import read_set


def require_loadable(context: Context, generation: Generation) -> None:
    """Load the sealed bytes of a release as a host would, and let go of them.

    Raises:
        FormatError: The bytes are another release's.
        AgentError, sandbox.SandboxError: They are not believed, or can't be run here.
    """
    folder = context.tree.folder(generation)
    longest = context.config.sandbox.max_module_bytes
    with contextlib.closing(context.open_sandbox()) as sandbox:
        files = read_set(folder / f"{generation.stem}.toml", max_module_bytes=longest)
        with contextlib.closing(sandbox.load(files)) as plugin:
            if plugin.release != generation.release:
                raise FormatError(
                    f"cannot use {folder}: it holds release {plugin.release[:12]}, expected "
                    f"{generation.release[:12]}"
                )
