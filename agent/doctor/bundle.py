"""The support bundle: what a stranger needs to help, and no secret (``--bundle FILE``).

Left out are keys, credentials and the values of settings; URLs lose their user names,
passwords and queries wherever they stand. A part that can't be made says why.
"""

import gzip
import io
import json
import platform
import re
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from agent import __version__
from agent.context import Context
from agent.doctor.finding import Finding
from agent.errors import UsageError, translated
from agent.verbs.inventory import entries, moment

_FOLDER = "agent-doctor"
_LINES = 200
_EVENTS = 100
_LEAST_SECRET_CHARS = 4
_HIDDEN = "***"
_URL_SECRETS = re.compile(
    r"(?<=//)[^/\s\"']+@|(?<=\?)[^\s\"'#]+|[^\s/\"'@]+:[^\s/\"'@]*@(?!sha256:)"
)
_VALUE_IN_ERROR = re.compile(r" is .*, expected ", re.DOTALL)
_DISTRIBUTIONS = ("stack-composer-agent", "wasmtime", "cryptography", "oras", "urllib3")


def write_bundle(context: Context | None, findings: Sequence[Finding], path: Path) -> None:
    """Write the bundle; readable by the user alone, and never over another file.

    Args:
        context: The installation; None where its config can't be used.
        findings: What the doctor found.
        path: The ``.tar.gz``.

    Raises:
        UsageError: There is such a file already, or no such folder.
    """
    from agent.files import Files

    if path.exists() or not path.parent.is_dir():
        what = "it is there already" if path.exists() else f"there is no folder {path.parent}"
        raise UsageError(f"cannot write {path}: {what}", hint="name another file")
    secrets = _secrets(context)
    held = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=held, mode="wb") as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, make in _parts(context, findings):
            data = redact(_made(make), secrets).encode()
            info = tarfile.TarInfo(f"{_FOLDER}/{name}")
            info.size, info.mode = len(data), 0o600
            archive.addfile(info, io.BytesIO(data))
    Files().write_atomic(path, held.getvalue(), mode=0o600)


def redact(text: str, secrets: Sequence[str]) -> str:
    """A text without the secrets, and without what URLs hold beside host and path."""
    for secret in secrets:
        # As it is, and as JSON writes it.
        for written in {secret, json.dumps(secret)[1:-1]}:
            text = text.replace(written, _HIDDEN)
    return _URL_SECRETS.sub(
        lambda match: f"{_HIDDEN}@" if match[0].endswith("@") else _HIDDEN, text
    )


def _parts(
    context: Context | None, findings: Sequence[Finding]
) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "versions.json", _versions
    yield "findings.json", lambda: [_finding(finding, context) for finding in findings]
    if context is not None:
        yield "config.json", lambda: list(_config(context))
        yield "list.json", lambda: [entry.row() for entry in entries(context, warn=lambda _: None)]
        yield "tree.txt", lambda: "\n".join(_tree(context))
        if context.ledger_path.exists():
            yield "history.json", lambda: _history(context)
            yield "schema.sql", lambda: _schema(context.ledger_path)
            yield "audit.json", lambda: context.audit.log.latest(limit=_LINES)


def _made(make: Callable[[], object]) -> str:
    try:
        part = make()
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        part = {"error": cause.message}
    return part if isinstance(part, str) else json.dumps(part, indent=1, default=str) + "\n"


def _versions() -> dict[str, str]:
    found = {"agent": __version__, "python": platform.python_version()}
    found |= {"platform": platform.platform(), "sqlite": sqlite3.sqlite_version}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a distribution"
    return found


def _finding(finding: Finding, context: Context | None) -> dict[str, object]:
    row = finding.row()
    if context is None:
        # The config's error quotes the value that it refuses, and that may be a secret.
        row["detail"] = _VALUE_IN_ERROR.sub(f" is {_HIDDEN}, expected ", finding.detail)
    return row


def _config(context: Context) -> Iterator[dict[str, object]]:
    for key, value, origin in context.config.effective():
        shown: object = value
        if key.endswith(".settings"):
            shown = dict.fromkeys(_mapping(value), _HIDDEN)
        elif isinstance(value, Mapping):
            shown = dict(value)
        yield {"key": key, "value": shown, "origin": origin}


def _tree(context: Context) -> Iterator[str]:
    """Names, modes and links of the plugin folder; no bytes."""
    for path in sorted(context.plugins_folder.rglob("*")):
        status = path.lstat()
        link = f" -> {path.readlink()}" if path.is_symlink() else ""
        name = path.relative_to(context.plugins_folder)
        yield f"{status.st_mode:06o} {status.st_size:>10} {name}{link}"


def _history(context: Context) -> dict[str, list[dict[str, object]]]:
    return {
        plugin_id: [
            {"at": moment(e.at), "event": e.kind, "version": e.version, "detail": e.detail}
            for e in context.ledger.history(plugin_id, limit=_EVENTS)
        ]
        for plugin_id in context.ledger.plugin_ids()
    }


def _schema(path: Path) -> str:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        rows = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        db.close()
    return "".join(f"{row[0]};\n" for row in [(f"PRAGMA user_version={version}",), *rows])


def _secrets(context: Context | None) -> list[str]:
    """The values of all settings that are long enough to be told from other words; the webhook."""
    if context is None:
        return []
    values = {
        str(value)
        for section in context.config.plugins.values()
        for value in section.settings.values()
        if not isinstance(value, bool)
    } | {context.config.hooks.webhook}
    return sorted((v for v in values if len(v) >= _LEAST_SECRET_CHARS), key=len, reverse=True)


def _mapping(value: Any) -> Mapping[str, object]:  # noqa: ANN401 - of any key
    return value if isinstance(value, Mapping) else {}
