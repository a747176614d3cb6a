"""A program's own functions, from its plugin's source to the operator's grant, end to end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent import PluginHost
from agent.errors import UsageError
from sandbox import CapabilityDenied, IncompatibleError
from support.sandbox import BUMP, host_call
from support.system import PLUGIN_ID, STEM, Machine, Publisher

ROOT = Path(__file__).parents[2]
BUILD_S = 300
RUN_S = 60
OTHER_ID = "org.example.other"

WITH_HEALTH = '(func (export "health") (result i32) (i32.const 0))'
ASKS = host_call("lookup", "(param i32 i32)", "(i32.const 0) (i32.const 4)").replace(
    BUMP, BUMP + WITH_HEALTH
)
IDLE = f'(module {BUMP} {WITH_HEALTH} (func (export "run") (result i64) (i64.const 0)))'
EDIT = {
    '["log"]': '["log", "lookup"]',
    'params = ["string"]': "params = []",
}


def lookup(key: str) -> str:
    """What the program has to say."""
    return key.upper()


@pytest.fixture
def asking(machine: Machine, publisher: Publisher) -> Machine:
    """A host with a plugin installed, by the command line, that imports ``lookup``."""
    publisher.release("0.1.0", code=ASKS, edit=EDIT)
    machine.run("pull", PLUGIN_ID)
    return machine


def answer_of(machine: Machine) -> object:
    """What a program that brings ``lookup`` gets from the plugin."""
    with PluginHost(home=machine.home) as host:
        host.register_host_function(lookup, name="lookup", capability="lookup")
        host.load_plugin(f"{STEM}.wasm")
        return json.loads(str(host.call_plugin("run")))


def test_a_program_brings_a_function(asking: Machine) -> None:
    """Granted, the signed plugin gets its answer; denied, its call ends; granted again, it goes."""
    with pytest.raises(CapabilityDenied, match=rf"agent grants {PLUGIN_ID}"):
        answer_of(asking)
    asking.run("grant", PLUGIN_ID, "lookup")
    assert answer_of(asking) == {"ok": "TEXT"}
    asking.run("deny", PLUGIN_ID, "lookup")
    with pytest.raises(CapabilityDenied):
        answer_of(asking)


@pytest.mark.parametrize("config", ['[capabilities]\ngrant = ["lookup"]\n', None])
def test_the_config_grants_and_a_ceiling_takes(
    machine: Machine, publisher: Publisher, config: str | None
) -> None:
    """Both places of the config know the word; the key's ceiling stands above them."""
    publisher.release("0.1.0", code=ASKS, edit=EDIT)
    machine.run("pull", PLUGIN_ID)
    machine.configure(config or f'[plugins."{PLUGIN_ID}"]\ngrants = ["lookup"]\n')
    assert answer_of(machine) == {"ok": "TEXT"}
    for ceiling, code in (("lookup", 0), ("search", 8)):
        store = machine.home / "config" / "trusted_keys.toml"
        store.unlink()
        publisher.trusted_by(machine, "org.example.*", "--max-capability", ceiling)
        assert machine.run("call", PLUGIN_ID, expect=code).code == code


def test_a_running_host_sees_the_grant(asking: Machine) -> None:
    """A grant in another process holds from the host's next look."""
    with PluginHost(home=asking.home) as host:
        host.register_host_function(lookup, name="lookup", capability="lookup")
        host.load_installed(PLUGIN_ID)
        with pytest.raises(CapabilityDenied):
            host.call_plugin("run")
        asking.process("grant", PLUGIN_ID, "lookup")
        host._loaded.find(PLUGIN_ID).follow(now=True)
        assert host.call_plugin("run") == '{"ok": "TEXT"}'


def test_a_program_without_the_function_refuses_the_plugin(
    asking: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing registered: refused at load by the import's name; ``discover`` logs it."""
    with PluginHost(home=asking.home) as host:
        with pytest.raises(IncompatibleError, match=r"stack_composer_v1\.lookup, which no host"):
            host.load_installed(PLUGIN_ID)
        assert host.discover() == ()
    assert "stack_composer_v1.lookup" in caplog.text


def test_a_trial_that_the_program_cannot_load_goes_back(
    machine: Machine, publisher: Publisher
) -> None:
    """An update to a release that imports what the program lacks: the old one serves it on."""
    publisher.release("0.1.0", code=IDLE, edit=EDIT)
    machine.run("pull", PLUGIN_ID)
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        publisher.release("0.2.0", code=ASKS, edit=EDIT, sample="0.1.0")
        machine.run("update")
        host._loaded.find(PLUGIN_ID).follow(now=True)
        host.call_plugin("run")
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
    assert machine.version() == "0.1.0"


def test_functions_come_before_plugins(asking: Machine) -> None:
    """Too late, twice, a name or hint that can't be: a UsageError each, and the host serves on."""

    def odd(key: list[str]) -> str:
        return key[0]

    with PluginHost(home=asking.home) as host:
        with pytest.raises(UsageError, match=r"its parameter 'key' is list\[str\], expected str, "):
            host.register_host_function(odd, name="lookup", capability="lookup")
        with pytest.raises(UsageError, match="the sandbox's own"):
            host.register_host_function(lookup, name="host_fetch", capability="lookup")
        host.register_host_function(lookup, name="lookup", capability="lookup", timeout_ms=1000)
        with pytest.raises(UsageError, match="one of that name already"):
            host.register_host_function(lookup, name="lookup", capability="lookup")
        host.load_installed(PLUGIN_ID)
        with pytest.raises(UsageError, match="register all functions before the first"):
            host.register_host_function(lookup, name="find", capability="lookup")


def test_the_command_line_is_another_host(asking: Machine, publisher: Publisher) -> None:
    """It runs the plugin: denied 8, granted ``unavailable``; and an unsigned folder the same."""
    folder = publisher.plugin("0.2.0", code=ASKS, edit=EDIT, sample="0.1.0")
    calls = [("call", PLUGIN_ID), ("call", str(folder), "--dev")]
    for call in calls:
        assert "agent: cannot let org.example.hello use 'lookup'" in asking.run(*call, expect=8).err
    asking.run("grant", PLUGIN_ID, "lookup")
    for call in calls:
        assert json.loads(asking.run(*call).out)["err"]["code"] == "unavailable"


def test_a_plugin_that_requests_no_such_word_is_refused(
    machine: Machine, publisher: Publisher
) -> None:
    """An unknown import without an application's word behind it stays what it was: 8."""
    publisher.release("0.1.0", code=ASKS, edit={'params = ["string"]': "params = []"})
    ran = machine.run("pull", PLUGIN_ID, expect=8)
    assert "it imports stack_composer_v1.lookup, which no host function provides" in ran.err


def test_every_verb_knows_the_word(asking: Machine, publisher: Publisher) -> None:
    """list, info, inspect, grants and the warning of a first install name it."""
    for verb in ("list", "info"):
        row = asking.json(verb, *([PLUGIN_ID] if verb == "info" else [])).row
        assert row["capabilities"] == ["log", "lookup"]
    assert asking.json("inspect", PLUGIN_ID).document["capabilities"] == ["log", "lookup"]
    grants = asking.json("grants", PLUGIN_ID).document["grants"]
    assert [(row["capability"], row["granted"]) for row in grants] == [
        ("log", True),
        ("lookup", False),
    ]
    assert "lookup" in asking.run("grants", PLUGIN_ID).out
    publisher.release("0.1.0", plugin_id=OTHER_ID, stem="other", code=ASKS, edit=EDIT)
    assert "lookup" in asking.run("pull", OTHER_ID).err


def test_a_new_word_waits_for_consent(installed: Machine, publisher: Publisher) -> None:
    """An update that asks for it waits; the verb that the message names lets it go on."""
    publisher.release("0.2.0", code=ASKS, edit=EDIT, sample="0.1.0")
    waiting = installed.json("update", PLUGIN_ID, expect=8)
    assert waiting.row["step"] == "consent"
    assert f"agent grant {PLUGIN_ID} lookup" in waiting.err
    ran = installed.run("grant", PLUGIN_ID, "lookup")
    assert ran.err == f"note: {PLUGIN_ID} 0.1.0 does not request lookup\n"
    assert installed.json("update").row["outcome"] == "trial"


def test_a_slip_of_the_pen_is_caught(asking: Machine) -> None:
    """A word close to one that there is, or of a plugin that is not there: 2, nothing decided."""
    before = asking.json("grants", PLUGIN_ID).out
    for verb in ("grant", "deny"):
        for wrong, right in (("netwrok", "network"), ("lokup", "lookup")):
            ran = asking.run(verb, PLUGIN_ID, wrong, expect=2)
            assert f"{wrong} to {PLUGIN_ID}: it is not one of log, " in ran.err
            assert f"try: agent {verb} {PLUGIN_ID} {right}" in ran.err
        ran = asking.run(verb, OTHER_ID, "lookup", expect=2)
        assert "and the plugin, which may have words of its own, is not there" in ran.err
        section = "grants" if verb == "grant" else "deny"
        assert f'in the config: [plugins."{OTHER_ID}"].{section}' in ran.err
    assert asking.json("grants", PLUGIN_ID).out == before


def test_config_check_tells_of_a_word_that_looks_like_a_slip(machine: Machine) -> None:
    """An application's word is sound; one close to the sandbox's own gets a note."""
    machine.configure(f'[plugins."{PLUGIN_ID}"]\ngrants = ["lookup"]\ndeny = ["netwrok"]\n')
    ran = machine.run("config", "check")
    assert ran.err == (
        f"note: {machine.config_file}: plugins.\"{PLUGIN_ID}\".deny has 'netwrok'; "
        "was network meant?\n"
    )


def code_block(page: Path, language: str, containing: str) -> str:
    """The only block of a page that holds a text."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def test_what_the_pages_show_works_together(machine: Machine, publisher: Publisher) -> None:
    """The C plugin of the author's page, built, in the program of the embedder's page."""
    folder = publisher.plugin(
        "0.1.0",
        stem="stock",
        code=b"",
        edit={'["log"]': '["lookup"]', '[health]\nfunc = "health"\n': ""},
    )
    source = folder.parent / "stock.c"
    source.write_text(code_block(ROOT / "sdk" / "README.md", "c", '"lookup"'), encoding="utf-8")
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi"),
            *("-mexec-model=reactor", "-nostdlib", "-Oz", "-s", "-Wl,--no-entry"),
            *("-Wl,-z,stack-size=65536", "-I", str(ROOT / "sdk" / "include")),
            *("-o", str(folder / "stock.wasm"), str(source)),
        ],
        check=True,
        timeout=BUILD_S,
    )
    publisher.push(folder)
    machine.run("pull", PLUGIN_ID)
    machine.run("grant", PLUGIN_ID, "lookup")
    program = code_block(ROOT / "docs" / "embedding.md", "python", "register_host_function")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"STACK_COMPOSER_HOME": str(machine.home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
    assert (done.stdout, done.stderr) == ('{"ok": 3}\n', "")
