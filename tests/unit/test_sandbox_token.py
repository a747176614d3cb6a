"""Capability tokens: minted once, sealed, checked on arrival, and spent in the host."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox import CapabilityDenied, Limits
from sandbox.admission import Admission, Bound
from sandbox.allowance import Allowance
from sandbox.errors import TokenError
from sandbox.token import KEY_BYTES, MAX_SEALED_BYTES, Token, parse_token, seal, unseal
from support.sandbox import (
    BUMP,
    READ_EXPORTS,
    READ_FILE,
    admit,
    host_call,
    loaded,
    manifest_text,
    parse,
    plugin_files,
    sandbox,
)

KEY = bytes(range(KEY_BYTES))
TOKEN = Token(
    plugin_id="org.example.hello",
    release="ab" * 32,
    capabilities=frozenset({"log", "network"}),
    hosts=frozenset({"api.example.org", "*.example.net:8443"}),
    limits=Limits(fuel_units=7),
    bounds=(Bound("log", expires_s=1_800_000_000), Bound("network", max_calls=3)),
)


def _bound(capability: str, expires_s: object = None, max_calls: object = None) -> dict[str, Any]:
    return {"capability": capability, "expires_s": expires_s, "max_calls": max_calls}


def test_a_token_is_what_was_requested_and_granted() -> None:
    """Capabilities and hosts are in both; each limit is the lower one; the rest is the host's."""
    extra = (
        '[limits]\nfuel_units = 5\nmem_bytes = 99\n[network]\nhosts = ["a.example", "b.example"]\n'
    )
    manifest = parse(manifest_text(extra, capabilities='["llm", "network"]').encode(), "x.toml")
    admission = Admission(
        granted=frozenset({"log", "network", "plan"}),
        limits=Limits(fuel_units=9, mem_bytes=66),
        release="cd" * 32,
        hosts=frozenset({"b.example", "c.example"}),
        bounds=(Bound("network", 12, 34), Bound("llm", 5), Bound("plan", 6)),
    )
    assert Token.mint(manifest, admission) == Token(
        plugin_id="org.example.hello",
        release="cd" * 32,
        capabilities=frozenset({"log", "network"}),
        hosts=frozenset({"b.example"}),
        limits=Limits(fuel_units=5, mem_bytes=66),
        own_limits=frozenset({"fuel_units"}),
        bounds=(Bound("llm", 5), Bound("network", 12, 34)),
    )


def test_a_sealed_token_comes_out_as_it_went_in() -> None:
    """With the key that it was sealed with, and no other."""
    for token in (TOKEN, Token("a.b", "", frozenset())):
        assert unseal(seal(token, KEY), KEY) == token
    with pytest.raises(TokenError, match="not sealed with this host's key"):
        unseal(seal(TOKEN, KEY), bytes(KEY_BYTES))


def test_every_byte_of_a_seal_counts() -> None:
    """One bit that is another, anywhere, and it is no token."""
    sealed = seal(TOKEN, KEY)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(TokenError):
            unseal(bytes(changed), KEY)
    for cut in (b"", sealed[:31], sealed[:-1], sealed + b" "):
        with pytest.raises(TokenError):
            unseal(cut, KEY)
    with pytest.raises(TokenError, match=f"at most {MAX_SEALED_BYTES}"):
        unseal(sealed + bytes(MAX_SEALED_BYTES), KEY)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("plugin_id", "hello"),
        ("plugin_id", None),
        ("plugin_id", "a." + "b" * 200),
        ("release", "AB" * 32),
        ("release", 7),
        ("capabilities", ["Log"]),
        ("capabilities", ["network", "log"]),
        ("capabilities", ["log", "log"]),
        ("capabilities", "log"),
        ("capabilities", [["log"]]),
        ("capabilities", None),
        ("hosts", ["exa mple"]),
        ("limits", {}),
        ("limits", {"fuel_units": 1}),
        ("limits", {"fuel": 1}),
        ("limits", None),
        ("bounds", [_bound("log", -1)]),
        ("bounds", [_bound("log", 1.5)]),
        ("bounds", [_bound("log", 0, max_calls=True)]),
        ("bounds", [_bound("log", 2**63)]),
        ("bounds", [_bound("log", None, 0)]),
        ("bounds", [_bound("log", None, "3")]),
        ("bounds", [_bound("log")]),
        ("bounds", [_bound("Log", 1)]),
        ("bounds", [_bound("log", 1), _bound("llm", 1)]),
        ("bounds", [_bound("log", 1), _bound("log", 2)]),
        ("bounds", [{"capability": "log", "expires_s": 1}]),
        ("bounds", [{**_bound("log", 1), "extra": 1}]),
        ("bounds", {"log": 1}),
        ("bounds", None),
        ("extra", 1),
    ],
)
def test_what_is_no_token_is_refused(field: str, value: object) -> None:
    """Unknown and missing keys, other types, ranges and orders: though the seal were right."""
    fields = json.loads(seal(TOKEN, KEY)[32:])
    fields[field] = value
    text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(TokenError):
        parse_token(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{}", b'"', b"\xff", b"[" * 100_000, b"NaN", b"1" * 5_000],
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    """Rubbish of any depth and size ends in the one error."""
    with pytest.raises(TokenError):
        parse_token(text)


def test_a_token_has_one_spelling() -> None:
    """Blanks, another order or a key said twice: the same meaning, and refused."""
    text = seal(TOKEN, KEY)[32:].decode()
    assert parse_token(text.encode()) == TOKEN
    for other in (
        text.replace(",", ", ", 1),
        text.replace('"max_calls":3', '"max_calls":2,"max_calls":3'),
        text.replace('"expires_s":1800000000', '"expires_s":1800000000.0'),
        text + "\n",
    ):
        assert other != text
        with pytest.raises(TokenError):
            parse_token(other.encode())


@pytest.mark.parametrize("moved", ["clock", "elapsed"])
def test_a_grant_ends_by_either_clock_and_for_good(moved: str) -> None:
    """From its last second on it is refused, also when the clock stands still or is set back."""
    now = {"clock": 1_799_999_990.0, "elapsed": 50.0}
    allowance = Allowance(TOKEN, None, lambda: now["clock"], lambda: now["elapsed"])
    now[moved] += 9.5
    assert allowance.refusal("log", set()) is None
    now[moved] += 0.5
    ended = "its grant ended at 2027-01-15T08:00:00+00:00"
    assert allowance.refusal("log", set()) == ended
    now[moved] -= 100_000
    assert allowance.refusal("log", set()) == ended


def test_a_call_is_counted_once() -> None:
    """However often it uses the capability; as many calls as the token says, and then none."""
    allowance = Allowance(TOKEN)
    for _ in range(3):
        counted: set[str] = set()
        assert [allowance.refusal("network", counted) for _ in range(5)] == [None] * 5
    reason = "the 3 calls it was granted for are used up"
    assert allowance.refusal("network", set()) == reason
    assert allowance.refusal("network", counted) is None


def test_threads_get_no_more_than_there_is() -> None:
    """Of many that ask at once, exactly as many are let through as the grant says."""
    allowance = Allowance(replace(TOKEN, bounds=(Bound("network", max_calls=100),)))
    given: list[str | None] = []

    def ask() -> None:
        given.extend(allowance.refusal("network", set()) for _ in range(60))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert given.count(None) == 100
    assert len(given) == 240


FETCH_TWICE = f"""(module
  (import "stack_composer_v1" "host_fetch" (func $fetch (param i32 i32 i32 i32) (result i64)))
  {BUMP}
  (data (i32.const 0) "http://a")
  (func (export "idle") (result i32) (i32.const 7))
  (func (export "run") (result i64)
    (drop (call $fetch (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0)))
    (call $fetch (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0))))"""


@pytest.mark.usefixtures("isolation")
def test_the_host_counts_wherever_a_plugin_runs() -> None:
    """A call that uses it counts once, one that does not is free, and never fails for it."""
    admission = replace(admit("network"), bounds=(Bound("network", max_calls=2),))
    with loaded(FETCH_TWICE, admission, capabilities='["network"]') as plugin:
        for _ in range(2):
            assert plugin.call("idle").value == 7
            assert "no provider" in str(plugin.call("run").value)
        with pytest.raises(
            CapabilityDenied, match="the 2 calls it was granted for are used up"
        ) as no:
            plugin.call("run")
        assert (no.value.capability, no.value.plugin_id) == ("network", "org.example.hello")
        assert plugin.call("idle").value == 7


@pytest.mark.usefixtures("isolation")
def test_an_end_binds_wherever_a_plugin_runs() -> None:
    """From one call to the next, without a load; the calls that do not use it go on."""
    now = [100.0]
    admission = replace(
        admit("network"), bounds=(Bound("network", expires_s=200),), clock=lambda: now[0]
    )
    with loaded(FETCH_TWICE, admission, capabilities='["network"]') as plugin:
        assert "no provider" in str(plugin.call("run").value)
        now[0] = 200.0
        with pytest.raises(CapabilityDenied, match="its grant ended at 1970-01-01T00:03:20"):
            plugin.call("run")
        now[0] = 100.0
        with pytest.raises(CapabilityDenied, match="its grant ended"):
            plugin.call("run")
        assert plugin.call("idle").value == 7


@pytest.mark.usefixtures("isolation")
@pytest.mark.parametrize("instance", ["fresh", "reused"])
def test_files_are_shown_to_so_many_calls(tmp_path: Path, instance: str) -> None:
    """Whether a guest reads can't be seen: each call that could counts; then there is no folder."""
    (tmp_path / "a").write_text("text", "utf-8")
    admission = replace(
        admit("fs_read", data_dir=tmp_path), bounds=(Bound("fs_read", max_calls=2),)
    )
    with loaded(
        READ_FILE,
        admission,
        extra=READ_EXPORTS,
        capabilities='["fs_read"]',
        instance=f'"{instance}"',
    ) as plugin:
        codes = [plugin.call("open", ["a"]).value for _ in range(3)]
    assert codes == [0, 0, 8]


@pytest.mark.usefixtures("isolation")
def test_a_function_of_the_application_is_counted_once_a_call() -> None:
    """The child asks, the host asks itself again: that is one call."""
    module = host_call("lookup", "", "")
    admission = replace(admit("lookup"), bounds=(Bound("lookup", max_calls=1),))
    with sandbox(admission) as box:
        box.register(find, name="lookup", capability="lookup")
        plugin = box.load(plugin_files(module, capabilities='["lookup"]'))
        assert plugin.call("run").value == '{"ok": "found"}'
        with pytest.raises(CapabilityDenied, match="the call it was granted for"):
            plugin.call("run")


def find() -> str:
    """A function that an application brings."""
    return "found"
