"""Whether a sealed release can serve on this host, now: verified, compiled, its imports there."""

import contextlib

from agent.context import Context
from agent.errors import FormatError
from agent.model import Generation
from agent.pipeline.subjects import subject_of
from sandbox import read_set


def require_loadable(context: Context, generation: Generation) -> None:
    """Load the sealed bytes of a release as a host would, and let go of them.

    Raises:
        FormatError: The bytes are another release's: asked first, because no signature fits those.
        AgentError, sandbox.SandboxError: They are not believed, or can't be run here.
    """
    folder = context.tree.folder(generation)
    longest = context.config.sandbox.max_module_bytes
    files = read_set(folder / f"{generation.stem}.toml", max_module_bytes=longest)
    manifest = context.parse_manifest(files.manifest, f"{generation.stem}.toml")
    found = subject_of(manifest, files.manifest, files.payload).release
    if found != generation.release:
        raise FormatError(
            f"the files in {folder} were changed: they are release {found[:12]}, expected "
            f"{generation.release[:12]}"
        )
    with contextlib.closing(context.open_sandbox()) as sandbox:
        sandbox.load(files).close()
