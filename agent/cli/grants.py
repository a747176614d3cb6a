"""grant, deny, grants: the operator's side of the capability model."""

import click

from agent.admission import ceiling_of
from agent.cli.app import (
    App,
    capability_type,
    dry_run_flag,
    format_flag,
    plugin_id_type,
    verb,
)
from agent.cli.installed import not_known
from agent.deciding import decide
from agent.errors import UsageError
from agent.grants import granted, similar_word
from agent.inventory import serving
from agent.remembering import decisions_on
from agent.schema import CAPABILITIES
from agent.settling import refuse_strangers


@verb(name="grant", examples="agent grant org.example.hello fs_read")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@click.argument("capability", metavar="CAP", type=capability_type)
@dry_run_flag
@format_flag
def grant_command(app: App, plugin_id: str, capability: str, *, dry_run: bool) -> None:
    """Grant a capability to a plugin; takes back an agent deny.

    It holds for the next load of the plugin.
    """
    _decide(app, plugin_id, capability, yes=True, dry_run=dry_run)


@verb(name="deny", examples="agent deny org.example.hello network")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@click.argument("capability", metavar="CAP", type=capability_type)
@dry_run_flag
@format_flag
def deny_command(app: App, plugin_id: str, capability: str, *, dry_run: bool) -> None:
    """Deny a capability to a plugin; takes back an agent grant.

    It holds for the next load of the plugin; a denied host function traps when it is called.
    """
    _decide(app, plugin_id, capability, yes=False, dry_run=dry_run)


@verb(name="grants", examples="agent grants org.example.hello --format json")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@format_flag
def grants_command(app: App, plugin_id: str) -> None:
    """Print what a plugin requests and what it is granted."""
    context = app.context
    live = context.activation.live(plugin_id) or context.activation.good(plugin_id)
    decisions = decisions_on(context.ledger, context.tree, plugin_id)
    if live is None and not decisions:
        raise not_known(context, f"cannot find {plugin_id}: it is not installed", hint="agent list")
    requested = set(live.capabilities) if live else set()
    ceiling = ceiling_of(context, live) if live is not None else None
    given = granted(context.config, plugin_id, decisions, ceiling)
    rows = [
        {
            "capability": capability,
            "requested": capability in requested,
            "granted": capability in given,
            "by": _source(app, plugin_id, capability, decisions),
        }
        for capability in sorted(requested | given | set(decisions), key=_place)
    ]
    if app.out.as_json:
        app.out.document(id=plugin_id, grants=rows)
        return
    app.out.table(
        ("CAPABILITY", "REQUESTED", "GRANTED", "BY"),
        [(r["capability"], _yes(r["requested"]), _yes(r["granted"]), r["by"]) for r in rows],
    )


def _decide(app: App, plugin_id: str, capability: str, *, yes: bool, dry_run: bool) -> None:
    context, word = app.context, "grant" if yes else "deny"
    refuse_strangers(context)
    _question(app, plugin_id, capability, word)
    if not dry_run:
        decide(context, plugin_id, capability, yes=yes)
    if app.out.as_json:
        app.out.document(id=plugin_id, capability=capability, granted=yes)
        return
    past = {"grant": "granted", "deny": "denied"}[word]
    app.out.line(f"{f'would {word}' if dry_run else past} {capability}: {plugin_id}")


def _question(app: App, plugin_id: str, capability: str, word: str) -> None:
    """Stop at a word that can mean nothing, or looks like a slip; tell of one that may come.

    Raises:
        UsageError: It is none of the sandbox's, and either no plugin is there to request it
            or it is close to a word that there is.
    """
    context = app.context
    if capability in CAPABILITIES or capability in context.ledger.decisions(plugin_id):
        return
    found = {one.plugin_id: one for one in serving(context, warn=app.out.message)}
    plugin = found.get(plugin_id)
    requested = plugin.capabilities if plugin else ()
    if capability in requested:
        return
    meant = similar_word(capability, (*CAPABILITIES, *requested))
    if plugin is None or meant is not None:
        known = ", ".join(dict.fromkeys((*CAPABILITIES, *requested)))
        raise UsageError(
            f"cannot {word} {capability} to {plugin_id}: it is not one of {known}"
            + ("" if plugin else ", and the plugin, which may have words of its own, is not there"),
            hint=f"agent {word} {plugin_id} {meant}"
            if meant
            else f"agent pull {plugin_id}, or decide in the config: "
            f'[plugins."{plugin_id}"].{"grants" if word == "grant" else "deny"}',
        )
    app.out.message(f"note: {plugin_id} {plugin.version} does not request {capability}")


def _place(capability: str) -> tuple[int, str]:
    """Where a capability stands in a listing: the sandbox's own first, in their order."""
    own = capability in CAPABILITIES
    return CAPABILITIES.index(capability) if own else len(CAPABILITIES), capability


def _source(app: App, plugin_id: str, capability: str, decisions: dict[str, bool]) -> str:
    """Where the decision on a capability comes from; a denial beats a grant."""
    section = app.context.config.plugin(plugin_id)
    if capability in section.deny:
        return "config: deny"
    if capability in decisions:
        return "agent grant" if decisions[capability] else "agent deny"
    if capability in section.grants:
        return "config: grants"
    if capability in app.context.config.capabilities.grant:
        return "config: capabilities.grant"
    return "default" if capability == "log" else "nobody decided"


def _yes(flag: object) -> str:
    return "yes" if flag else "no"
