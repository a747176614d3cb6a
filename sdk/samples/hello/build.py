"""Build the hello plugin in its four versions, byte for byte the same on every machine.

Usage::

    python sdk/samples/hello/build.py            # write the files of every version's folder
    python sdk/samples/hello/build.py --check    # write nothing; exit 1 where a file differs

Needs ``ziglang==0.14.1`` (``pip install ziglang==0.14.1``); another compiler gives other bytes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parents[1] / "include"
ZIG_VERSION = "0.14.1"
BUILD_TIMEOUT_S = 300
FLAGS = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor"),
    "-nostdlib",  # no C library: under half a kilobyte, and nothing to import but host_log
    *("-std=c17", "-Wall", "-Wextra", "-Werror", "-Oz", "-s", "-mbulk-memory"),
    "-Wl,--no-entry",
    "-Wl,-z,stack-size=65536",  # the default stack asks for 16 MiB of memory
)

MANIFEST = """\
[plugin]
id           = "org.example.hello"
version      = "{version}"
wasm_target  = "wasm32-wasi"
signature    = "file:hello-plugin.sig"
capabilities = ["log"]
entry        = "run"
abi          = 1

[meta]
name        = "Hello Plugin"
description = "Answers with a greeting."
license     = "Apache-2.0"
authors     = ["The Stack Composer authors"]

[health]
func = "health"

[exports.run]
params = ["string"]
result = "string"
"""

README = """\
# Hello Plugin {version}

{summary}

    $ agent call org.example.hello run World
    {answer}

Built from `hello.c` by `build.py`, not signed: `agent sign {version}/ --key FILE`.
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """One version: how it is compiled, and what its README says."""

    defines: tuple[str, ...]
    summary: str
    answer: str


VARIANTS = {
    "0.1.0": Variant((), "Says hello.", "Hello, World"),
    "0.2.0": Variant(('-DGREETING="Hello again, "',), "Says hello again.", "Hello again, World"),
    "0.3.0": Variant(
        ('-DGREETING="Hello at last, "', "-DHEALTH=1"),
        "Says of itself that it is not healthy, so an update to it is refused at the probe.",
        "Hello at last, World",
    ),
    "0.4.0": Variant(
        ("-DRUN_TRAPS",),
        "Passes its health check and traps at every call, so an update to it is rolled back.",
        "… (a trap)",
    ),
}


def main() -> int:
    """Build all versions and write or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--output", type=Path, default=HERE, help="where the version folders are")
    options = parser.parse_args()
    problem = compiler_problem()
    if problem:
        print(problem, file=sys.stderr)
        return 2

    differing = 0
    for name, data in build_all().items():
        path = options.output / name
        same = path.is_file() and path.read_bytes() == data
        if options.check:
            differing += not same
        elif not same:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        print(f"{name}: {'same' if same else 'differs' if options.check else 'written'}")
    return 1 if differing else 0


def compiler_problem() -> str | None:
    """Say what is wrong with the compiler at hand; None where it is the pinned one."""
    try:
        found = version("ziglang")
    except PackageNotFoundError:
        found = "none"
    if found == ZIG_VERSION:
        return None
    return (
        f"cannot build: got ziglang {found}, expected {ZIG_VERSION}; "
        f"run `pip install ziglang=={ZIG_VERSION}`"
    )


def build_all() -> dict[str, bytes]:
    """Return every file of every version by its path below the output folder."""
    files = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, variant in VARIANTS.items():
            wasm = Path(scratch) / f"{number}.wasm"
            compile_c(variant, wasm)
            files[f"{number}/hello-plugin.wasm"] = wasm.read_bytes()
            files[f"{number}/hello-plugin.toml"] = MANIFEST.format(version=number).encode()
            files[f"{number}/README.md"] = README.format(
                version=number, summary=variant.summary, answer=variant.answer
            ).encode()
    return files


def compile_c(variant: Variant, output: Path) -> None:
    """Compile ``hello.c`` as one version; ``CalledProcessError`` where the compiler refuses."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stack-composer-zig"
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *variant.defines]
    command += [f"-I{INCLUDE}", "-o", str(output), "hello.c"]
    subprocess.run(command, cwd=HERE, env=caches | os.environ, check=True, timeout=BUILD_TIMEOUT_S)


if __name__ == "__main__":
    sys.exit(main())
