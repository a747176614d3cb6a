"""Credential helpers: programs for the ``PATH`` of a test."""

from pathlib import Path

# A real program that speaks the helpers' protocol and keeps what it is given in a folder.
KEEPER = """#!/usr/bin/env python3
import json, pathlib, sys
folder = pathlib.Path({folder!r})
given = sys.stdin.read()
with (folder / "calls").open("a") as calls:
    print(sys.argv[1], file=calls)
if sys.argv[1] == "store":
    entry = json.loads(given)
    (folder / entry["ServerURL"].replace("/", "_")).write_text(given)
    raise SystemExit
kept = folder / given.replace("/", "_")
if not kept.exists():
    print("credentials not found in native keychain")
    raise SystemExit(1)
if sys.argv[1] == "get":
    print(kept.read_text())
else:
    kept.unlink()
"""


def put_helper(programs: Path, name: str, text: str) -> None:
    """Put a helper into a folder on ``PATH``."""
    path = programs / f"docker-credential-{name}"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
