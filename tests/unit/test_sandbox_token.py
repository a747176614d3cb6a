"""Capability tokens: minted once, sealed, checked on arrival, and spent in the host."""

import json
from dataclasses import replace

import pytest

from sandbox import AllowanceSpentError, Limits
from sandbox.admission import Admission
from sandbox.allowance import Allowance
from sandbox.errors import TokenError
from sandbox.token import KEY_BYTES, MAX_SEALED_BYTES, Token, parse_token, seal, unseal
from support.sandbox import ECHO, admit, loaded, manifest_text, parse

KEY = bytes(range(KEY_BYTES))
TOKEN = Token(
    plugin_id="org.example.hello",
    release="ab" * 32,
    capabilities=frozenset({"log", "network"}),
    hosts=frozenset({"api.example.org", "*.example.net:8443"}),
    limits=Limits(fuel_units=7),
    expires_s=1_800_000_000,
    max_calls=3,
)


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
        expires_s=12,
        max_calls=34,
    )
    assert Token.mint(manifest, admission) == Token(
        plugin_id="org.example.hello",
        release="cd" * 32,
        capabilities=frozenset({"log", "network"}),
        hosts=frozenset({"b.example"}),
        limits=Limits(fuel_units=5, mem_bytes=66),
        own_limits=frozenset({"fuel_units"}),
        expires_s=12,
        max_calls=34,
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
        ("expires_s", -1),
        ("expires_s", 1.5),
        ("expires_s", True),
        ("expires_s", 2**63),
        ("max_calls", 0),
        ("max_calls", "3"),
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


def test_a_token_expires() -> None:
    """From its last second on no call begins, and the error says what to look at."""
    now = [TOKEN.expires_s or 0]
    allowance = Allowance(replace(TOKEN, max_calls=None), lambda: now[0])
    with pytest.raises(
        AllowanceSpentError, match=r"has expired; see: agent grants org\."
    ) as caught:
        allowance.spend()
    assert caught.value.plugin_id == "org.example.hello"
    now[0] -= 1
    allowance.spend()


def test_calls_are_counted() -> None:
    """As many as the token says, and then none."""
    allowance = Allowance(TOKEN, lambda: 0)
    for _ in range(3):
        allowance.spend()
    with pytest.raises(AllowanceSpentError, match="its 3 calls are used up"):
        allowance.spend()


@pytest.mark.usefixtures("isolation")
def test_the_host_counts_wherever_a_plugin_runs() -> None:
    """Calls that could not begin and probes are free; one too many never reaches the guest."""
    with loaded(ECHO, replace(admit(), max_calls=2)) as plugin:
        plugin.probe()
        with pytest.raises(Exception, match="does not export it"):
            plugin.call("nope")
        for _ in range(2):
            assert plugin.call("run", ["x"]).value == "x"
        with pytest.raises(AllowanceSpentError):
            plugin.call("run", ["x"])
    with loaded(ECHO, replace(admit(), expires_s=1)) as plugin, pytest.raises(AllowanceSpentError):
        plugin.call("run", ["x"])
