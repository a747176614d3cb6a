"""What the operator wrote: the config and the trust store."""

import datetime as dt
import os
from collections.abc import Iterator

from agent.context import Context
from agent.doctor.finding import Finding
from agent.errors import ConfigError, translated
from agent.settings.registry_check import check_registries


def check_config(context: Context) -> Iterator[Finding]:
    """Whether every registry base can be used; keys and values were checked when it was read."""
    try:
        check_registries(context.config, context.places)
    except ConfigError as error:
        yield Finding("config", ok=False, detail=error.message, fix=error.hint)
        return
    read = [str(path) for path in context.places.config_files if path.exists()]
    detail = f"{', '.join(read)}: sound" if read else "no config file: the defaults are in force"
    yield Finding("config", ok=True, detail=detail)


def check_trust(context: Context) -> Iterator[Finding]:
    """Whether the trust store can be used, and is the newest that was ever seen."""
    import trust

    path = context.trust_store_path()
    try:
        store = trust.load(path, uid=os.geteuid())
        for key in store.keys:
            trust.refuse_weak(key.public)
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        detail = f"{cause.message}; nothing new is taken and no plugin is loaded until it can"
        yield Finding("trust", ok=False, detail=detail, fix=cause.hint or "agent trust check")
        return
    highest = None
    if context.ledger_path.exists():
        highest = context.ledger.highest_serial(str(path))
    if highest is not None and store.serial < highest:
        what = (
            f"its serial {store.serial} is lower than {highest}" if store.serial else "it is gone"
        )
        yield Finding(
            "trust",
            ok=False,
            detail=f"{path} was used before with serial {highest}, and now {what}: an older store "
            "was put back, or it was removed; what it revoked may be believed again",
            fix=f"put the newer file back, or after a review set a serial above {highest}",
        )
        return
    now = dt.datetime.fromtimestamp(context.clock(), dt.UTC)
    if store.expires is not None and store.expires <= now:
        yield Finding(
            "trust",
            ok=False,
            detail=f"{path} expired at {store.expires.isoformat()}: no new release is taken; what "
            "is installed runs on",
            fix="get the store that follows it from whoever keeps it",
        )
        return
    if not store.keys and context.tree.plugin_ids():
        yield Finding(
            "trust",
            ok=False,
            detail=f"there is no key in {path}: every plugin is refused",
            fix="put the trust store back, or agent trust add KEY --owner NAME --scope PATTERN",
        )
        return
    detail = f"{path}: serial {store.serial}, {len(store.keys)} keys"
    yield Finding("trust", ok=True, detail=detail if store.serial else f"there is no {path} yet")
