"""grant, deny, grants: the operator's side of the capability model."""

from collections.abc import Mapping

import click

from agent.cli.app import (
    App,
    capability_type,
    dry_run_flag,
    duration_type,
    format_flag,
    plugin_id_type,
    verb,
)
from agent.cli.installed import not_known
from agent.errors import UsageError
from agent.ledger.memory import MAX_COUNT, Decided
from agent.pipeline.admission import ceiling_of
from agent.pipeline.settling import refuse_strangers, tell_behind
from agent.serving.grants import bounds_of, granted, similar_word
from agent.settings.kinds import CAPABILITIES
from agent.tree.remembering import decided_on, refuse_behind
from agent.verbs.deciding import calls, decide, decision, extent
from agent.verbs.inventory import moment, serving


@verb(
    name="grant",
    examples="agent grant org.example.hello fs_read\n"
    "agent grant org.example.hello network --for 7d --max-calls 1000",
)
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@click.argument("capability", metavar="CAP", type=capability_type)
@click.option("--for", "for_s", type=duration_type, metavar="D", help="90s, 10m, 7d; else no end.")
@click.option(
    "--max-calls",
    type=click.IntRange(min=1, max=MAX_COUNT),
    metavar="N",
    help="Calls of the plugin that use it; else any number.",
)
@dry_run_flag
@format_flag
def grant_command(
    app: App,
    plugin_id: str,
    capability: str,
    *,
    for_s: int | None,
    max_calls: int | None,
    dry_run: bool,
) -> None:
    """Grant a capability to a plugin; takes back an agent deny and an earlier grant's end.

    It holds for the next load of the plugin. A grant that is over is as if nobody had granted it.
    """
    decided = decision(app.context, capability, yes=True, for_s=for_s, max_calls=max_calls)
    _decide(app, plugin_id, decided, dry_run=dry_run)


@verb(name="deny", examples="agent deny org.example.hello network")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@click.argument("capability", metavar="CAP", type=capability_type)
@dry_run_flag
@format_flag
def deny_command(app: App, plugin_id: str, capability: str, *, dry_run: bool) -> None:
    """Deny a capability to a plugin; takes back an agent grant.

    It holds for the next load of the plugin; a denied host function traps when it is called.
    """
    decided = decision(app.context, capability, yes=False)
    _decide(app, plugin_id, decided, dry_run=dry_run)


@verb(name="grants", examples="agent grants org.example.hello --format json")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@format_flag
def grants_command(app: App, plugin_id: str) -> None:
    """Print what a plugin requests and what it is granted."""
    context = app.context
    live = context.activation.live(plugin_id) or context.activation.good(plugin_id)
    decided = {
        one.capability: one
        for one in decided_on(context.ledger, context.tree, plugin_id)
        # What the config grants has no end.
        if not one.is_bounded or bounds_of(context.config, plugin_id, [one])
    }
    now = context.clock()
    decisions = {word: one.granted for word, one in decided.items() if one.is_in_force(now)}
    if live is None and not decided:
        message = f"cannot find {plugin_id}: it is not installed"
        raise not_known(context, plugin_id, message, hint="agent list")
    tell_behind(context, plugin_id, app.out.message)
    requested = set(live.capabilities) if live else set()
    ceiling = ceiling_of(context, live) if live is not None else None
    given = granted(context.config, plugin_id, decisions, ceiling)
    rows = [
        {
            "capability": capability,
            "requested": capability in requested,
            "granted": capability in given,
            "by": _source(app, plugin_id, capability, decided),
            **_ends(decided.get(capability)),
        }
        for capability in sorted(requested | given | set(decided), key=_place)
    ]
    if app.out.as_json:
        app.out.document(id=plugin_id, grants=rows)
        return
    app.out.table(
        ("CAPABILITY", "REQUESTED", "GRANTED", "BY"),
        [
            (
                r["capability"],
                _yes(r["requested"]),
                _yes(r["granted"]),
                f"{r['by']}{_told(decided.get(str(r['capability'])), now)}",
            )
            for r in rows
        ],
    )


def _decide(app: App, plugin_id: str, decided: Decided, *, dry_run: bool) -> None:
    context, word = app.context, "grant" if decided.granted else "deny"
    capability = decided.capability
    refuse_strangers(context)
    if decided.granted or dry_run:
        refuse_behind(context.ledger, context.tree, plugin_id)
    _question(app, plugin_id, capability, word)
    if decided.is_bounded and not bounds_of(context.config, plugin_id, [decided]):
        app.out.message(f"note: {plugin_id} has {capability} without an end, by the config")
    unwritten = None if dry_run else decide(context, plugin_id, decided)
    if app.out.as_json:
        app.out.document(
            id=plugin_id, capability=capability, granted=decided.granted, **_ends(decided)
        )
    else:
        past = {"grant": "granted", "deny": "denied"}[word]
        app.out.line(
            f"{f'would {word}' if dry_run else past} {capability}{extent(decided)}: {plugin_id}"
        )
    if unwritten is not None:
        app.out.error(unwritten.code, unwritten.message, unwritten.hint)
        app.end_with([unwritten.exit_code])


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


def _ends(decided: Decided | None) -> dict[str, object]:
    """How far a grant goes, for programs; what is None has no end."""
    return {
        "until": None if decided is None or decided.until is None else moment(decided.until),
        "max_calls": decided and decided.max_calls,
        "calls_left": decided and decided.calls_left,
    }


def _told(decided: Decided | None, now: float) -> str:
    """How far a grant goes, for people."""
    if decided is None or not decided.is_bounded:
        return ""
    said = ""
    if decided.until is not None:
        word = "ended" if decided.until <= now else "until"
        said += f", {word} {moment(decided.until)}"
    if decided.max_calls is not None:
        said += f", {decided.calls_left} of {calls(decided.max_calls)} left"
    return said


def _source(app: App, plugin_id: str, capability: str, decided: Mapping[str, Decided]) -> str:
    """Where the decision on a capability comes from; a denial beats a grant."""
    section = app.context.config.plugin(plugin_id)
    if capability in section.deny:
        return "config: deny"
    if capability in decided:
        return "agent grant" if decided[capability].granted else "agent deny"
    if capability in section.grants:
        return "config: grants"
    if capability in app.context.config.capabilities.grant:
        return "config: capabilities.grant"
    return "default" if capability == "log" else "nobody decided"


def _yes(flag: object) -> str:
    return "yes" if flag else "no"
