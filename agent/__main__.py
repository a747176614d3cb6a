"""The ``agent`` command, also as ``python -m agent``."""

import os
import sys


def run() -> None:
    """Run the command line and exit with the code of contract §7."""
    if sys.platform == "win32":
        sys.stderr.write("agent: cannot run on Windows: the agent needs Linux or macOS\n")
        raise SystemExit(2)
    from agent.cli.main import main

    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away (``agent list | head``): that is no fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise SystemExit(code)


if __name__ == "__main__":
    run()
