"""The ``agent`` command, also as ``python -m agent``."""

import gc
import sys

_GARBAGE_AFTER = 100_000


def run() -> None:
    """Run the command line and exit with the code of contract §7."""
    if sys.platform == "win32":
        sys.stderr.write("agent: cannot run on Windows: the agent needs Linux or macOS\n")
        raise SystemExit(2)
    # What is imported stays: looking for garbage in it, now and again at the end, takes a
    # quarter of a short command's time.
    gc.set_threshold(_GARBAGE_AFTER)
    try:
        from agent.cli.main import main
        from agent.cli.streams import drop_unwritten, harden

        harden()
        code = main(sys.argv[1:])
        drop_unwritten()
    except KeyboardInterrupt:  # also while the imports above take their time
        code = 130
    gc.freeze()
    raise SystemExit(code)


if __name__ == "__main__":
    run()
