"""What the verbs that change plugins print: a row for each, and the exit code (contract §7)."""

from collections.abc import Sequence

from agent.cli.app import App
from agent.model import Kind, Outcome
from agent.verbs.rows import outcome_row

_NAMED = ("hold", "unhold", "disable", "enable", "remove")
"""Steps that take nothing: no release and digest to tell."""


def report(app: App, outcomes: Sequence[Outcome], *, named: bool) -> None:
    """Print the rows; decide the exit code from the causes (contract §7).

    Args:
        app: The run.
        outcomes: One for each plugin.
        named: A person named them: what waits ends with 8.
    """
    if app.out.as_json:
        app.out.document(plugins=[outcome_row(outcome) for outcome in outcomes])
    codes = []
    for outcome in outcomes:
        if not app.out.as_json:
            _print(app, outcome)
        if outcome.ungranted:
            words, one = ", ".join(outcome.ungranted), outcome.ungranted[0]
            app.out.message(f"{outcome.plugin_id}: requests {words}, which nobody has granted")
            app.out.message(f"  try: agent grant {outcome.plugin_id} {one}")
        waits = outcome.kind is Kind.PENDING and not named
        codes.append(_code(outcome) if not waits else 0)
        if outcome.error is not None and not waits:
            app.out.error(outcome.error.code, outcome.error.message, outcome.error.hint)
    app.end_with(codes)


def _code(outcome: Outcome) -> int:
    if outcome.kind is Kind.PENDING:
        return 8
    return outcome.error.exit_code if outcome.error is not None else 0


def _print(app: App, outcome: Outcome) -> None:
    before, after = outcome.before or "nothing", outcome.after
    change = f"{before} → {after}" if after and after != outcome.before else before
    if outcome.kind is Kind.FETCHED:
        change = str(after)  # what is installed stays
    if outcome.error is not None and outcome.kind in (Kind.REFUSED, Kind.FAILED):
        app.out.line(f"{outcome.plugin_id}  {change}  {outcome.kind} at {outcome.step}")
        return
    app.out.line(f"{outcome.plugin_id}  {change}  {outcome.kind}: {outcome.detail}")
    if outcome.step in _NAMED:
        return
    if outcome.kind in (Kind.COMMITTED, Kind.TRIAL, Kind.STAGED, Kind.FETCHED, Kind.ROLLED_BACK):
        app.out.line(f"  release {outcome.release}")
        app.out.line(f"  digest  {outcome.digest or '-'}")
