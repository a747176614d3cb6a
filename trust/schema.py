"""The bytes of ``trusted_keys.toml`` → a store, strictly (contract, section 5).

A restriction that this version cannot honour is refused, never skipped: a store read
with less care than it was written with would trust too much.
"""

import re

from trust.errors import StoreError
from trust.fields import Table, is_one_line
from trust.keys import parse_public
from trust.model import Binding, Deny, Status, TrustedKey, TrustStore
from trust.scope import WILDCARD

MAX_STORE_BYTES = 1 << 20
SCHEMA = 1
BINDINGS: tuple[Binding, ...] = ("v1", "bare")
STATUSES: tuple[Status, ...] = ("active", "retiring", "revoked")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SEGMENT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_CAPABILITY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_SCOPE_CHARACTERS = 128
_TOP_KEYS = "schema, serial, expires, [[key]], [[deny]]"
_KEY_KEYS = (
    "id, algorithm, public, owner, scopes, registries, accepts, max_capabilities, not_before, "
    "not_after, status, revoked_at, reason, keep_releases"
)
_DENY_KEYS = "release or payload_sha256, and reason"


def parse(data: bytes, *, name: str) -> TrustStore:
    """Read a trust store from the bytes of ``trusted_keys.toml``.

    Weak keys are read: :func:`trust.refuse_weak` is a step of its own, and
    :func:`trust.verify` takes it before it believes a key.

    Args:
        data: TOML in UTF-8, at most 1 MiB.
        name: The file's name, for messages.

    Returns:
        The store, its ``path`` None.

    Raises:
        StoreError: It is not TOML, too long, or a key is unknown, missing, of the wrong form, or
            contradicts another. The message names file and key.
    """
    top = Table(_decode(data, name), what=f"cannot use the trust store {name}")
    top.take_choice("schema", (SCHEMA,))
    for unsupported in ("identity", "namespace"):
        if top.take(unsupported) is not None:
            raise StoreError(
                f"cannot use the trust store {name}: got [[{unsupported}]], which is not supported "
                "by this version, expected [[key]] and [[deny]] only; remove it or update the agent"
            )
    store = TrustStore(
        serial=top.take_integer("serial"),
        expires=top.take_time("expires"),
        keys=tuple(read_key(table) for table in top.take_tables("key")),
        denies=tuple(_read_deny(table) for table in top.take_tables("deny")),
    )
    top.finish(_TOP_KEYS)
    _refuse_duplicates(store, name)
    return store


def read_key(table: Table) -> TrustedKey:
    """Read one ``[[key]]``.

    Raises:
        StoreError: A key of it is unknown, missing, or of the wrong form.
    """
    written_id = table.take_text("id")
    table.take_choice("algorithm", ("ed25519",))
    text = table.take_match("public", _SHA256, "64 lowercase hex characters")
    if text is None:
        raise table.refuse("public", text, "64 lowercase hex characters")
    public = parse_public(text)
    if written_id != public.key_id:
        raise table.refuse("id", written_id, f"{public.key_id}, the id of the key in `public`")

    scope_form = 'two dotted segments or more of a-z 0-9 -, "*" standing alone, as org.example.*'
    scopes = table.take_texts("scopes", _is_scope, scope_form)
    if scopes is None:
        raise table.refuse("scopes", scopes, f"a list, each item {scope_form}")
    accepts = table.take_texts("accepts", _is_binding, '"v1" or "bare"') or ("v1",)
    ceiling = table.take_texts(
        "max_capabilities", _is_capability, "a capability, as log", may_be_empty=True
    )
    key = TrustedKey(
        public=public,
        owner=table.take_text("owner"),
        scopes=scopes,
        registries=table.take_texts(
            "registries", _is_registry, 'a host and path, "*" standing alone, as example.com/*'
        )
        or (),
        accepts=tuple(binding for binding in BINDINGS if binding in accepts),
        max_capabilities=None if ceiling is None else frozenset(ceiling),
        not_before=table.take_time("not_before"),
        not_after=table.take_time("not_after"),
        status=table.take_choice("status", STATUSES, "active"),
        revoked_at=table.take_time("revoked_at"),
        reason=table.take_text("reason", ""),
        keep_releases=frozenset(
            table.take_texts(
                "keep_releases", _is_sha256, "a release, 64 hex characters", may_be_empty=True
            )
            or ()
        ),
    )
    table.finish(_KEY_KEYS)
    _refuse_contradictions(key, table)
    return key


def _refuse_contradictions(key: TrustedKey, table: Table) -> None:
    if key.not_before and key.not_after and key.not_after <= key.not_before:
        raise table.refuse("not_after", key.not_after.isoformat(), "a time after not_before")
    if key.status != "revoked" and (key.revoked_at or key.reason or key.keep_releases):
        # Someone revoked this key and forgot the one word that counts.
        raise table.refuse(
            "status", key.status, '"revoked" beside revoked_at, reason or keep_releases'
        )


def _read_deny(table: Table) -> Deny:
    form = "64 lowercase hex characters"
    deny = Deny(
        release=table.take_match("release", _SHA256, form),
        payload_sha256=table.take_match("payload_sha256", _SHA256, form),
        reason=table.take_text("reason", ""),
    )
    table.finish(_DENY_KEYS)
    if (deny.release is None) == (deny.payload_sha256 is None):
        raise table.refuse(
            "", "both" if deny.release else "neither", "exactly one of release and payload_sha256"
        )
    return deny


def _decode(data: bytes, name: str) -> dict[str, object]:
    what = f"cannot read the trust store {name}"
    if len(data) > MAX_STORE_BYTES:
        raise StoreError(f"{what}: got more than {MAX_STORE_BYTES} bytes, expected at most that")
    import tomli

    try:
        return tomli.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise StoreError(f"{what}: got bytes that are not UTF-8, expected TOML") from error
    except tomli.TOMLDecodeError as error:
        raise StoreError(f"{what}: got broken TOML ({error}), expected TOML") from error
    except RecursionError as error:
        raise StoreError(f"{what}: got tables nested too deep, expected TOML") from error


def _refuse_duplicates(store: TrustStore, name: str) -> None:
    owners: dict[bytes, str] = {}
    for index, key in enumerate(store.keys):
        owner = owners.setdefault(key.public.raw, key.owner)
        if owner != key.owner:
            raise StoreError(
                f"cannot use the trust store {name}: key[{index}].owner: got {key.owner!a}, "
                f"expected {owner!a}, who holds the key {key.public.key_id} further up; "
                "one key cannot speak for two owners"
            )
    if len(owners) < len(store.keys):
        ids = [key.public.key_id for key in store.keys]
        twice = next(key_id for key_id in ids if ids.count(key_id) > 1)
        raise StoreError(
            f"cannot use the trust store {name}: key.id: got {twice} twice, expected each key "
            "once; join the two entries"
        )


def _is_scope(text: str) -> bool:
    segments = text.split(".")
    # A lone word would match nothing, as an id has two segments: taken for a slip of the pen.
    long_enough = len(segments) > 1 or text == WILDCARD
    return (
        long_enough
        and len(text) <= _MAX_SCOPE_CHARACTERS
        and all(part == WILDCARD or _SEGMENT.fullmatch(part) for part in segments)
    )


def _is_registry(text: str) -> bool:
    return (
        is_one_line(text)
        and " " not in text
        and all(part == WILDCARD or (part and WILDCARD not in part) for part in text.split("/"))
    )


def _is_binding(text: str) -> bool:
    return text in BINDINGS


def _is_capability(text: str) -> bool:
    return _CAPABILITY.fullmatch(text) is not None


def _is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None
