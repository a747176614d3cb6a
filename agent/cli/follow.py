"""logs, events: what the service saw, and goes on seeing (-f)."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from agent.cli.app import App, format_flag, plugin_id_type, verb
from agent.cli.output import SCHEMA_VERSION
from agent.cli.remote import required_service
from agent.cli.streams import is_read

_LIMIT = click.IntRange(1, 1000)


def _follow_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("-f", "--follow", is_flag=True, help="Go on as more comes.")(command)


def _limit_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-n", "--limit", type=_LIMIT, default=100, metavar="N", help="The last N. Default: 100."
    )(command)


@verb(name="logs", examples="agent logs org.example.hello\nagent logs org.example.hello -f")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@_follow_flag
@_limit_flag
@format_flag
def logs_command(app: App, plugin_id: str, *, follow: bool, limit: int) -> None:
    """Print what a plugin said lately in the service, oldest first.

    With -f it goes on; as JSON then one object a line.
    """
    _show(app, f"/v1/plugins/{plugin_id}/logs", "logs", _record, follow=follow, limit=limit)


@verb(name="events", examples="agent events\nagent events -f --format json")
@_follow_flag
@_limit_flag
@format_flag
def events_command(app: App, *, follow: bool, limit: int) -> None:
    """Print what happened to plugins, whoever did it, oldest first.

    With -f it goes on; as JSON then one object a line. agent history tells one plugin's without
    a service.
    """
    _show(app, "/v1/events", "events", _event, follow=follow, limit=limit)


def _record(row: dict[str, Any]) -> str:
    return f"{row['at']} {row['level']} {row['source']}: {row['message']}"


def _event(row: dict[str, Any]) -> str:
    about = [row["at"], row["id"], row["event"], row["version"], row["detail"]]
    return "  ".join(str(word) for word in about if word)


def _show(
    app: App,
    target: str,
    name: str,
    spell: Callable[[dict[str, Any]], str],
    *,
    follow: bool,
    limit: int,
) -> None:
    def tell(row: dict[str, Any]) -> None:
        if app.out.as_json:
            app.out.line(json.dumps({"schemaVersion": SCHEMA_VERSION, **row}))
        else:
            app.out.line(spell(row))

    with required_service(app) as service:
        page = service.get(f"{target}?limit={limit}")
        if app.out.as_json and not follow:
            del page["schemaVersion"]
            app.out.document(**page)
            return
        for row in page[name]:
            tell(row)
        after = page["last"]
        # The service ends a stream now and then; one that ends itself listens no more.
        while follow:
            for row in service.follow(f"{target}?follow&after={after}"):
                sys.stdout.flush()
                if not is_read(1):
                    return
                if row is not None:
                    tell(row)
                    after = row["number"]
