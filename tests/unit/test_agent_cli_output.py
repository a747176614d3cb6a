"""What a person or a program reads, and how the verbs are named: flags, help, exit codes."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from agent import __version__
from agent.__main__ import run as start
from agent.cli.app import App, is_path, manifest_at
from agent.cli.main import _VERBS, main
from agent.cli.main import agent as group
from agent.cli.output import Output, fields_of, sizes
from agent.cli.progress import pipeline, transfer
from agent.errors import UsageError
from support.agent import installed_at

EVIL = "a\x1b[31mred\r\n\u202eb"
SAFE = "a\\x1b[31mred\\r\\n\\u202eb"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the caller's reaches the agent."""
    monkeypatch.setattr("os.environ", {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"})


def run(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """Run a command: its exit code, stdout and stderr."""
    code = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


# -- output


def test_what_a_terminal_could_act_on_is_escaped(capsys: Capture) -> None:
    """In a line, a table, a message, an error and its hint."""
    out = Output()
    out.line(EVIL)
    out.table(("A", "B"), [(EVIL, None), ("b", 1)])
    out.message(EVIL)
    out.error("code", EVIL, EVIL)
    shown = capsys.readouterr()
    width = len(SAFE)
    assert shown.out.splitlines() == [
        SAFE,
        f"{'A'.ljust(width)}  B",
        f"{SAFE}  -",
        f"{'b'.ljust(width)}  1",
    ]
    assert shown.err.splitlines() == [SAFE, f"agent: {SAFE}", f"  try: {SAFE}"]


def test_json_is_ascii_and_carries_its_version(capsys: Capture) -> None:
    """The text arrives as it was, by escapes that every parser knows."""
    Output().document(text=EVIL, row={"é": None})
    text = capsys.readouterr().out
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text) == {"schemaVersion": 1, "text": EVIL, "row": {"é": None}}


def test_an_empty_table_is_nothing(capsys: Capture) -> None:
    """No headings over nothing."""
    Output().table(("A",), [])
    assert capsys.readouterr().out == ""


def test_quiet_and_verbose(capsys: Capture) -> None:
    """Quiet: errors only. Verbose: details too. Else: messages."""
    out = Output()
    for quiet, verbose in ((False, False), (True, False), (False, True)):
        out.quiet, out.verbose = quiet, verbose
        out.message("message")
        out.detail("detail")
    out.quiet = True
    out.error("code", "error", None)
    assert capsys.readouterr().err.split() == ["message", "message", "detail", "agent:", "error"]


def test_an_error_is_a_document_unless_one_was_printed(capsys: Capture) -> None:
    """With JSON: the error as the only document, or the row that was printed stands alone."""
    out = Output()
    out.as_json = True
    out.error("not-found", "cannot find x", "agent list")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "schemaVersion": 1,
        "error": {"code": "not-found", "message": "cannot find x", "hint": "agent list"},
    }
    assert shown.err == "agent: cannot find x\n  try: agent list\n"
    out.error("other", "again", None)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "agent: again\n")


class Terminal(io.StringIO):
    """A person's screen."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize(
    ("variable", "color", "red"),
    [(None, True, True), ("1", True, False), ("", True, True), (None, False, False)],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, *, color: bool, red: bool
) -> None:
    """Not with ``NO_COLOR``, not with ``--no-color``, and never into a file."""
    if variable is not None:
        monkeypatch.setitem(os.environ, "NO_COLOR", variable)
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    out = Output()
    out.color = out.color and color
    assert out.interactive
    out.error("code", "bad", None)
    assert screen.getvalue() == ("\x1b[31magent: bad\x1b[0m\n" if red else "agent: bad\n")
    out.quiet = True
    assert not out.interactive


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_572_864, "1.5 MiB"),
        (2**30, "1.0 GiB"),
        (2**42, "4096.0 GiB"),
    ],
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    """The unit that fits."""
    assert sizes(size_bytes) == text


def test_fields_of_a_row() -> None:
    """Lists are joined; nothing is a dash."""
    row = {"a": ["x", "y"], "b": None, "c": "", "d": 0, "e": (), "f": "text"}
    assert fields_of(row) == [
        ("a", "x, y"),
        ("b", "-"),
        ("c", "-"),
        ("d", "0"),
        ("e", "-"),
        ("f", "text"),
    ]


def test_a_small_transfer_is_not_worth_a_word(capsys: Capture) -> None:
    """A large one gets a line where nobody watches."""
    out = Output()
    with transfer(out, "fetching x", 1023) as more:
        more(1023)
    assert capsys.readouterr().err == ""
    with transfer(out, "fetching x", 5 << 20) as more:
        more(5 << 20)
    assert capsys.readouterr().err == "fetching x: 5.0 MiB\n"


def test_a_large_transfer_has_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar names what goes over, with nothing in the name taken for markup."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setitem(os.environ, "TERM", "xterm")
    monkeypatch.setitem(os.environ, "COLUMNS", "120")
    with pipeline(Output()) as progress:
        progress.step("[red]x", "fetch")
        progress.bytes_total(5 << 20)
        progress.bytes_done(5 << 20)
        progress.bytes_total(10)
        progress.bytes_done(10)
    assert "fetching [red]x" in screen.getvalue()
    assert "5.0/5.0 MiB" in screen.getvalue()


def test_steps_are_told_to_whoever_asks_for_more(capsys: Capture) -> None:
    """With ``-v``, one line a step."""
    out = Output()
    for out.verbose in (False, True):
        with pipeline(out) as progress:
            progress.step("org.example.hello", "verify")
    assert capsys.readouterr().err == "org.example.hello: verify\n"


# -- verbs and flags


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all verbs, those of groups too."""
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    found = []
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        found += commands(below, (*path, name))
    return found


VERBS = commands(group)


def test_the_verbs_are_those_of_the_contract() -> None:
    """The ones that this version has; none is left without a line of help."""
    assert {path[0] for path in VERBS} == set(_VERBS)
    assert {" ".join(path) for path in VERBS} >= {
        *("keygen", "sign", "verify", "push", "pull", "tags", "resolve", "inspect", "list"),
        *("info", "check", "outdated", "update", "rollback", "history", "why", "grant"),
        *("deny", "grants", "call", "prune", "completion", "config show", "config check"),
        *("trust add", "trust list", "trust show", "trust check", "trust revoke"),
        *("audit show", "audit verify"),
        *("doctor", "hold", "unhold", "disable", "enable", "remove", "login", "logout"),
        *("discover", "copy", "export", "import"),
    }


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_explains_itself(capsys: Capture, path: Sequence[str], flag: str) -> None:
    """Usage, the global flags, and examples that begin with the command itself."""
    code, out, err = run(capsys, *path, flag)
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: agent {' '.join(path)} ")
    assert "Examples:" in out
    examples = out.split("Examples:")[1]
    assert f"agent {' '.join(path)}" in examples
    for name in ("--config", "--home", "--registry", "--offline", "--system", "--no-color"):
        assert name in out


CHANGING = [
    *("keygen", "sign", "push", "pull", "update", "rollback", "prune", "grant", "deny"),
    *("trust add", "trust revoke", "doctor", "disable", "enable", "remove", "hold", "unhold"),
    *("login", "logout", "copy", "export", "import"),
]


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_that_changes_something_can_be_tried_dry(
    capsys: Capture, path: Sequence[str]
) -> None:
    """``--dry-run`` is where it has a meaning, and nowhere else."""
    _, out, _ = run(capsys, *path, "--help")
    assert ("--dry-run" in out) is (" ".join(path) in CHANGING)


@pytest.mark.parametrize("verb", sorted({path[0] for path in VERBS if len(path) > 1}))
def test_a_group_of_verbs_lists_them(capsys: Capture, verb: str) -> None:
    """``agent trust --help`` names what there is."""
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    for path in VERBS:
        if path[0] == verb:
            assert f"\n  {path[1]} " in out


def test_the_help_of_the_whole_names_every_verb(capsys: Capture) -> None:
    """One line each."""
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name, (_, text) in _VERBS.items():
        assert f"  {name} " in out
        assert text.split(maxsplit=1)[0] in out


def test_the_version(capsys: Capture) -> None:
    """On stdout, by name."""
    assert run(capsys, "--version") == (0, f"agent, version {__version__}\n", "")


LAZY = """
import sys
from agent.cli.main import main
assert main([sys.argv[1]]) == 0
heavy = ("wasmtime", "urllib3", "oras", "rich", "opentelemetry", "sigstore", "apscheduler",
    "starlette", "uvicorn", "httptools", "asyncio")
print("loaded:", sorted({name.split(".")[0] for name in sys.modules} & set(heavy)))
"""


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_what_needs_no_plugin_loads_no_engine(flag: str) -> None:
    """Start-up is what a person waits for: nothing heavy is imported."""
    done = subprocess.run(
        [sys.executable, "-c", LAZY, flag], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("verb", "near"), [("pul", "pull"), ("updat", "update"), ("lsit", "list"), ("qqqq", None)]
)
def test_an_unknown_verb_is_a_usage_error(capsys: Capture, verb: str, near: str | None) -> None:
    """Exit 2, the nearest verb, and where to look."""
    code, out, err = run(capsys, verb)
    assert (code, out) == (2, "")
    suggestion = f'; did you mean "{near}"?' if near else ""
    assert err == f"agent: cannot find the verb '{verb}'{suggestion}\n  try: agent --help\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["info"], "Missing argument 'ID'"),
        (["list", "--nope"], "No such option"),
        (["list", "extra"], "unexpected extra argument"),
        (["list", "--format", "xml"], "'xml' is not one of"),
        (["grant", "org.example.hello", "Root"], "got 'Root', expected one of log,"),
        (["trust", "nope"], "No such command 'nope'"),
        (["hold"], "Missing argument 'ID'"),
        (["hold", "org.example.hello", "--for", "0s"], "got '0s', expected at least 1s"),
        (["disable", "org.example.hello", "org.example.other"], "unexpected extra argument"),
        (["doctor", "org.example.hello"], "unexpected extra argument"),
    ],
)
def test_wrong_arguments_are_a_usage_error(
    capsys: Capture, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Exit 2, what was wrong, and the help to look at."""
    code, out, err = run(capsys, "--home", tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "--help" in err.splitlines()[-1]


@pytest.mark.parametrize("verb", [(), ("trust",), ("config",), ("audit",)])
def test_no_verb_at_all_gets_the_help(capsys: Capture, verb: tuple[str, ...]) -> None:
    """Exit 2, as nothing was done; the help is on stderr, readable."""
    code, out, err = run(capsys, *verb)
    assert (code, out) == (2, "")
    assert err == run(capsys, *verb, "--help")[1]


def flags_of(*arguments: object) -> App:
    """What the flags of a run of ``list`` came to."""
    app = App()
    group.main([str(a) for a in arguments], prog_name="agent", standalone_mode=False, obj=app)
    app.close()
    return app


def test_global_flags_on_either_side(capsys: Capture, tmp_path: Path) -> None:
    """Before the verb, after it, or some of each: the same."""
    config = tmp_path / "host.toml"
    config.touch()
    flags: list[object] = ["--home", tmp_path, "--config", config, "--registry", "oci:/r"]
    flags += ["--plain-http", "--insecure", "--ca-file", tmp_path / "ca", "--offline", "--system"]
    flags += ["--no-color", "-q", "-v"]
    runs = [
        flags_of(*flags, "list"),
        flags_of("list", *flags),
        flags_of(*flags[:6], "list", *flags[6:]),
    ]
    for app in runs:
        assert app.flags == {
            "home": tmp_path,
            "config": config,
            "registry": "oci:/r",
            "plain_http": True,
            "insecure": True,
            "ca_file": tmp_path / "ca",
            "offline": True,
            "system": True,
        }
        assert (app.out.color, app.out.quiet, app.out.verbose) == (False, True, True)
    assert flags_of("list", "--home", tmp_path).flags == {"home": tmp_path}
    capsys.readouterr()


def test_a_flag_between_the_words_of_a_verb(capsys: Capture, tmp_path: Path) -> None:
    """``agent config --home DIR show`` is understood as well."""
    answers = {
        run(capsys, *arguments)
        for arguments in (
            ("--home", tmp_path, "config", "show", "--effective"),
            ("config", "--home", tmp_path, "show", "--effective"),
            ("config", "show", "--effective", "--home", tmp_path),
        )
    }
    ((code, out, _),) = answers
    assert code == 0
    assert str(tmp_path / "plugins") in out


# -- JSON of the verbs that need no plugin


def document(capsys: Capture, *arguments: object) -> tuple[int, dict[str, Any]]:
    """The exit code and the one JSON document on stdout."""
    code, out, _ = run(capsys, *arguments, "--format", "json")
    found = json.loads(out)
    assert found.pop("schemaVersion") == 1
    return code, found


@pytest.mark.parametrize("verb", ["list", "check", "outdated", "update", "prune"])
def test_nothing_installed_is_an_empty_list(capsys: Capture, tmp_path: Path, verb: str) -> None:
    """Exit 0 and no rows."""
    rows = ("removed", "failed", "cached") if verb == "prune" else ("plugins",)
    assert document(capsys, "--home", tmp_path, verb) == (0, {key: [] for key in rows})


@pytest.mark.parametrize(
    "verb",
    [
        *("info", "check", "outdated", "history", "why", "grants", "prune", "rollback"),
        *("hold", "unhold", "disable", "enable", "remove"),
    ],
)
def test_what_is_not_installed_is_not_found(capsys: Capture, tmp_path: Path, verb: str) -> None:
    """Exit 3, with the error as the document; dry, too, where there is a dry run."""
    if verb in CHANGING:
        dry = run(capsys, "--home", tmp_path, verb, "org.example.hello", "--dry-run")
        assert dry == run(capsys, "--home", tmp_path, verb, "org.example.hello")
    code, found = document(capsys, "--home", tmp_path, verb, "org.example.hello")
    assert code == 3
    assert found["error"]["code"] == "not-found"
    assert found["error"]["message"].startswith("cannot ")
    assert found["error"]["hint"].startswith("agent ")


BAD_IDS = ["hello", "Org.example", "org..hello", "../org.example", "org.example.", f"a.{'b' * 127}"]
TAKES_AN_ID = [
    *("info", "check", "outdated", "history", "why", "update", "rollback", "prune", "grants"),
    *("grant", "deny", "hold", "unhold", "disable", "enable", "remove"),
]


@pytest.mark.parametrize("verb", TAKES_AN_ID)
def test_what_is_no_id_is_a_usage_error(capsys: Capture, tmp_path: Path, verb: str) -> None:
    """Exit 2 with an example of one, and no text of the caller's reaches disk or ledger."""
    more = ["log"] if verb in {"grant", "deny"} else []
    for text in BAD_IDS:
        code, found = document(capsys, "--home", tmp_path / "home", verb, text, *more)
        assert (code, found["error"]["code"]) == (2, "usage")
        assert repr(text) in found["error"]["message"]
        assert "org.example.hello" in found["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_an_id_of_the_greatest_length_is_one(capsys: Capture, tmp_path: Path) -> None:
    """128 characters are looked up; one more is the case above."""
    assert run(capsys, "--home", tmp_path, "info", f"a.{'b' * 126}")[0] == 3


@pytest.mark.parametrize(
    ("codes", "end"),
    [([], 0), ([0], 0), ([0, 0], 0), ([5], 5), ([5, 5], 5), ([0, 5], 12), ([5, 7, 5], 12)],
)
def test_several_plugins_end_with_one_code(codes: list[int], end: int) -> None:
    """All alike → that one; else 12."""
    app = App()
    app.end_with(codes)
    assert app.exit_code == end


def test_the_installation_knows_which_verb_acts(capsys: Capture, tmp_path: Path) -> None:
    """The log of decisions names the verb, a group's in two words."""
    home, plugin = ("--home", tmp_path), "org.example.hello"
    assert run(capsys, *home, "grant", plugin, "network")[0] == 0
    key = tmp_path / "k.pem"
    assert run(capsys, *home, "keygen", key)[0] == 0
    scope = ("--owner", "me", "--scope", plugin)
    assert run(capsys, *home, "trust", "add", f"{key}.pub", *scope)[0] == 0
    code, found = document(capsys, *home, "audit", "show")
    assert code == 0
    assert [line["by"] for line in found["lines"]] == ["grant", "trust add"]
    assert document(capsys, *home, "audit", "verify")[1]["sound"] is True


def test_a_log_that_is_not_there_is_empty_and_sound(capsys: Capture, tmp_path: Path) -> None:
    """Before the first decision there is nothing to show and nothing wrong."""
    assert document(capsys, "--home", tmp_path, "audit", "show") == (0, {"lines": []})
    assert run(capsys, "--home", tmp_path, "audit", "show")[2] == "nothing was decided yet\n"
    assert run(capsys, "--home", tmp_path, "audit", "verify")[:2] == (
        0,
        "sound: 0 lines in 0 segments\n",
    )


def test_grants_are_decided_by_command(capsys: Capture, tmp_path: Path) -> None:
    """Grant, deny in turn; a dry run decides nothing."""
    home, plugin = ("--home", tmp_path), "org.example.hello"
    endless = {"until": None, "max_calls": None, "calls_left": None}
    assert document(capsys, *home, "grant", plugin, "network", "--dry-run") == (
        0,
        {"id": plugin, "capability": "network", "granted": True, **endless},
    )
    assert run(capsys, *home, "grants", plugin)[0] == 3
    for verb, granted in (("grant", True), ("deny", False)):
        assert document(capsys, *home, verb, plugin, "network") == (
            0,
            {"id": plugin, "capability": "network", "granted": granted, **endless},
        )
        _, found = document(capsys, *home, "grants", plugin)
        (row,) = [row for row in found["grants"] if row["capability"] == "network"]
        assert row == {
            "capability": "network",
            "requested": False,
            "granted": granted,
            "by": f"agent {verb}",
            **endless,
        }
    assert run(capsys, *home, "deny", plugin, "llm")[1] == f"denied llm: {plugin}\n"
    assert run(capsys, *home, "deny", plugin, "llm", "--dry-run")[1] == (
        f"would deny llm: {plugin}\n"
    )


def test_grants_say_who_decided(capsys: Capture, tmp_path: Path) -> None:
    """What is requested, what is granted, and where each decision comes from."""
    path = tmp_path / "config" / "plugin-host.toml"
    path.parent.mkdir()
    path.write_text(
        '[capabilities]\ngrant = ["plan"]\n'
        '[plugins."org.example.hello"]\ngrants = ["llm"]\ndeny = ["network"]\n'
    )
    with installed_at(tmp_path, capabilities=("log", "network", "fs_read", "llm", "plan")):
        pass
    run(capsys, "--home", tmp_path, "grant", "org.example.hello", "retrieval")
    code, out, _ = run(capsys, "--home", tmp_path, "grants", "org.example.hello")
    assert code == 0
    # The key that signed it is in no trust store: its ceiling is nothing but log.
    assert [line.split(maxsplit=3) for line in out.splitlines()] == [
        ["CAPABILITY", "REQUESTED", "GRANTED", "BY"],
        ["log", "yes", "yes", "default"],
        ["retrieval", "no", "no", "agent grant"],
        ["llm", "yes", "no", "config: grants"],
        ["plan", "yes", "no", "config: capabilities.grant"],
        ["network", "yes", "no", "config: deny"],
        ["fs_read", "yes", "no", "nobody decided"],
    ]


def test_the_config_as_it_is_in_force(capsys: Capture, tmp_path: Path) -> None:
    """What was set, with its origin; with ``--effective`` all; durations as they are written."""
    path = tmp_path / "config" / "plugin-host.toml"
    path.parent.mkdir()
    path.write_text('[update]\ninterval = "90m"\n[plugins."a.b".settings]\nx = 1\n')
    _, found = document(capsys, "--home", tmp_path, "config", "show")
    assert found == {
        "values": [
            {"key": "update.interval", "value": "1h30m", "origin": str(path)},
            {"key": 'plugins."a.b".settings', "value": {"x": 1}, "origin": str(path)},
        ]
    }
    _, found = document(capsys, "--home", tmp_path, "config", "show", "--effective")
    values = {row["key"]: row["value"] for row in found["values"]}
    assert (values["update.probation"], values["update.windows"]) == ("10m", [])
    _, out, _ = run(capsys, "--home", tmp_path, "config", "show", "--effective")
    assert re.search(r"(?m)^network\.offline +false +default$", out)


def test_flags_are_part_of_what_is_in_force(capsys: Capture, tmp_path: Path) -> None:
    """Each value that a flag sets names the flag; ``--registry`` leaves no namespace."""
    path = tmp_path / "config" / "plugin-host.toml"
    path.parent.mkdir()
    path.write_text(
        '[registry]\ndefault = "a.example"\nnamespaces = {"org.b" = "b.example"}\n'
        '[registry.hosts."localhost:1"]\nclient_cert = "c.pem"\n'
    )
    show = ("--home", tmp_path, "config", "show", "--effective")
    _, found = document(capsys, *show)
    plain = {row["key"]: (row["value"], row["origin"]) for row in found["values"]}
    assert plain["network.offline"] == (False, "default")
    ca_file = tmp_path / "ca.pem"
    flags = ("--offline", "--registry", "localhost:1/x", "--plain-http", "--insecure")
    _, found = document(capsys, *show, *flags, "--ca-file", ca_file)
    rows = {row["key"]: (row["value"], row["origin"]) for row in found["values"]}
    host = 'registry.hosts."localhost:1"'
    assert {key: row for key, row in rows.items() if key not in plain or plain[key] != row} == {
        "network.offline": (True, "--offline"),
        "registry.default": ("localhost:1/x", "--registry"),
        f"{host}.plain_http": (True, "--plain-http"),
        f"{host}.insecure": (True, "--insecure"),
        f"{host}.ca_file": (str(ca_file), "--ca-file"),
    }
    assert set(plain) - set(rows) == {'registry.namespaces."org.b"'}


def test_a_broken_config_is_named(capsys: Capture, tmp_path: Path) -> None:
    """``config check`` says which file was read, or what is wrong in it."""
    code, out, _ = run(capsys, "--home", tmp_path, "config", "check")
    assert code == 0
    assert "the defaults are in force" in out
    assert document(capsys, "--home", tmp_path, "config", "check") == (
        0,
        {"files": [], "ok": True},
    )
    path = tmp_path / "config" / "plugin-host.toml"
    path.parent.mkdir()
    path.write_text("[limits]\n")
    assert run(capsys, "--home", tmp_path, "config", "check")[1] == f"{path}: sound\n"
    path.write_text("[limits]\nfuel_units = 0\n")
    code, found = document(capsys, "--home", tmp_path, "config", "check")
    assert (code, found["error"]["code"]) == (2, "config")
    assert f"{path}: limits.fuel_units is 0" in found["error"]["message"]


def test_nothing_set_says_so(capsys: Capture, tmp_path: Path) -> None:
    """An empty answer is explained on stderr."""
    code, out, err = run(capsys, "--home", tmp_path, "config", "show")
    assert (code, out) == (0, "")
    assert "nothing is set" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(capsys: Capture, shell: str) -> None:
    """Each shell gets a script that calls the agent."""
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0
    assert "_AGENT_COMPLETE" in out


@pytest.mark.parametrize(
    ("words", "cword", "proposed"),
    [
        ("agent pu", "1", {"push", "pull"}),
        ("agent d", "1", {"deny", "disable", "discover", "doctor"}),
        ("agent hold --f", "2", {"--for", "--format"}),
        ("agent trust a", "2", {"add"}),
        ("agent q", "1", {""}),
    ],
)
def test_completion_proposes_verbs(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: str, cword: str, proposed: set[str]
) -> None:
    """What the scripts ask for is answered, and is no error."""
    for name, value in {
        "_AGENT_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": cword,
    }.items():
        monkeypatch.setitem(os.environ, name, value)
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert {line.removeprefix("plain,") for line in out.splitlines()} == proposed


def test_a_verb_that_is_not_there_is_none() -> None:
    """Whoever asks the group for one is told so."""
    assert group.get_command(click.Context(group), "nope") is None


def test_spans_go_nowhere_unless_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by default; on by the config or the standard variable."""
    for variable, is_on in ((None, False), ("OTEL_EXPORTER_OTLP_ENDPOINT", True)):
        if variable:
            monkeypatch.setitem(os.environ, variable, "http://127.0.0.1:9")
        app = App()
        app.flags = {"home": tmp_path}
        with click.Context(group, info_name="agent"):
            assert app.telemetry.is_on is is_on
        app.close()


# -- the process


def test_windows_is_refused_in_one_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is imported that is not there."""
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("agent: cannot run on Windows")


def test_a_bug_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is not dressed up."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("agent.cli.main.agent.main", broken)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


# -- PATH or reference


def test_a_path_exists_and_looks_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It contains "/" or ends in .toml, and is there; "." counts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin").mkdir()
    (tmp_path / "p.toml").touch()
    yes = [".", "..", "./plugin", str(tmp_path), "p.toml"]
    no = ["plugin", "missing.toml", "org.example.hello", "localhost:5000/x"]
    assert [text for text in (*yes, *no) if is_path(text)] == yes
    with pytest.raises(UsageError, match=r"cannot find a plugin at \./missing"):
        is_path("./missing")


def test_the_manifest_of_a_path(tmp_path: Path) -> None:
    """The .toml itself, or the only one in the folder; hidden ones do not count."""
    with pytest.raises(UsageError, match="found none, expected one"):
        manifest_at(str(tmp_path))
    manifest = tmp_path / "a.toml"
    manifest.touch()
    (tmp_path / ".hidden.toml").touch()
    assert manifest_at(str(tmp_path)) == manifest
    assert manifest_at(str(manifest)) == manifest
    (tmp_path / "b.toml").touch()
    with pytest.raises(UsageError, match=r"found a\.toml, b\.toml, expected one"):
        manifest_at(str(tmp_path))
    (tmp_path / "a.wasm").touch()
    for bad in ("a.wasm", "missing.toml"):
        with pytest.raises(UsageError, match="expected a folder or its"):
            manifest_at(str(tmp_path / bad))
