"""The capability token: what one load of a plugin is allowed, and nothing else. Pure.

It is minted when a plugin is loaded, and sealed when it crosses to a child process: JSON in
one spelling only, under a MAC. Whatever does not come out as it would go in is refused, so
that no two texts mean the same token.
"""

import hashlib
import hmac
import itertools
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sandbox.admission import Admission, Bound
from sandbox.capabilities import effective
from sandbox.errors import TokenError
from sandbox.grammar import CAPABILITY, HOST_PATTERN, PLUGIN_ID
from sandbox.limits import Limits
from sandbox.manifest import MAX_ID_CHARACTERS, PluginManifest

KEY_BYTES = 32
MAX_SEALED_BYTES = 65_536

_PURPOSE = b"stack-composer-token/v1\n"
_MAC_BYTES = hashlib.sha256().digest_size
_RELEASE = re.compile(r"(?:[0-9a-f]{64})?")
_LARGEST = 2**63 - 1
_BOUNDS = frozenset(bound.name for bound in fields(Limits))


@dataclass(frozen=True, slots=True)
class Token:
    """What one load of a plugin is allowed.

    Attributes:
        plugin_id: Whose it is.
        release: The release's SHA-256 in hex; empty for a folder that nobody signed.
        capabilities: Requested ∩ granted, and ``log`` if granted.
        hosts: The patterns of hosts it may reach with ``network``.
        limits: The bounds of each call.
        own_limits: The names of those bounds that the plugin itself asked to be lower.
        bounds: Where a capability may be used until a moment, or in some calls, by capability.
    """

    plugin_id: str
    release: str
    capabilities: frozenset[str]
    hosts: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    own_limits: frozenset[str] = frozenset()
    bounds: tuple[Bound, ...] = ()

    @property
    def bounded(self) -> frozenset[str]:
        """The capabilities whose grants have an end; each use is asked of the host."""
        return frozenset(bound.capability for bound in self.bounds)

    @classmethod
    def mint(cls, manifest: PluginManifest, admission: Admission) -> "Token":
        """The token of a plugin that was admitted: what it requests and the operator lets it."""
        usable = {"log", *manifest.capabilities}
        return cls(
            plugin_id=manifest.id,
            release=admission.release,
            capabilities=effective(manifest.capabilities, admission.granted),
            hosts=frozenset(manifest.network_hosts) & admission.hosts,
            limits=admission.limits.lowered_by(manifest.limits),
            own_limits=admission.limits.lowering(manifest.limits),
            bounds=tuple(
                sorted(
                    (one for one in admission.bounds if one.capability in usable),
                    key=lambda one: one.capability,
                )
            ),
        )


def seal(token: Token, key: bytes) -> bytes:
    """A token as bytes that only the key's holders can make."""
    text = _spelled(token)
    return _mac(text, key) + text


def unseal(sealed: bytes, key: bytes) -> Token:
    """The token in sealed bytes.

    Raises:
        TokenError: Too long, not sealed with the key, or not in the one spelling of a token.
    """
    if len(sealed) > MAX_SEALED_BYTES:
        raise TokenError(
            f"cannot take a token: got {len(sealed)} bytes, expected at most {MAX_SEALED_BYTES}"
        )
    mac, text = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(text, key)):
        raise TokenError("cannot take a token: it is not sealed with this host's key")
    return parse_token(text)


def parse_token(text: bytes) -> Token:
    """The token in unsealed bytes.

    Raises:
        TokenError: They are not the one spelling of a token.
    """
    try:
        token = _checked(json.loads(text))
        is_exact = _spelled(token) == text
    # a stranger's JSON can be of any shape and depth
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TokenError("cannot take a token: it is not one") from error
    if not is_exact:
        raise TokenError("cannot take a token: it is spelled in another way than tokens are")
    return token


def _checked(found: Any) -> Token:  # noqa: ANN401  # a stranger's JSON
    capabilities, hosts = found["capabilities"], found["hosts"]
    own_limits = frozenset(found["own_limits"])
    token = Token(
        plugin_id=found["plugin_id"],
        release=found["release"],
        capabilities=frozenset(capabilities),
        hosts=frozenset(hosts),
        limits=Limits(**found["limits"]),
        own_limits=own_limits,
        bounds=tuple(Bound(**one) for one in found["bounds"]),
    )
    fits = (
        len(token.plugin_id) <= MAX_ID_CHARACTERS
        and PLUGIN_ID.fullmatch(token.plugin_id) is not None
        and _RELEASE.fullmatch(token.release) is not None
        and all(CAPABILITY.fullmatch(word) is not None for word in capabilities)
        and all(HOST_PATTERN.fullmatch(pattern) is not None for pattern in hosts)
        and own_limits <= _BOUNDS
        and all(map(_is_bound, token.bounds))
        and all(a.capability < b.capability for a, b in itertools.pairwise(token.bounds))
    )
    if not fits:
        raise ValueError
    return token


def _is_bound(bound: Bound) -> bool:
    return (
        CAPABILITY.fullmatch(bound.capability) is not None
        and (bound.expires_s, bound.max_calls) != (None, None)
        and _is_count(bound.expires_s, least=0)
        and _is_count(bound.max_calls, least=1)
    )


def _is_count(value: object, *, least: int) -> bool:
    # bool is an int in Python
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value is None or (whole and least <= value <= _LARGEST)  # type: ignore[operator]


def _spelled(token: Token) -> bytes:
    spelled = asdict(token)
    for name in ("capabilities", "hosts", "own_limits"):
        spelled[name] = sorted(spelled[name])
    return json.dumps(spelled, sort_keys=True, separators=(",", ":")).encode("ascii")


def _mac(text: bytes, key: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + text, hashlib.sha256).digest()
