"""What a refusal depends on beside the bytes that were refused."""

from collections.abc import Iterable

from agent import __version__
from agent.context import Context


def refusal_terms(context: Context, plugin_id: str) -> str:
    """The terms of the day: a refused candidate is judged anew when any of them changes.

    They are whom the operator trusts, what this host can run, and what the operator lets the
    plugin do.
    """
    section = context.config.plugin(plugin_id)
    decisions = context.ledger.decisions(plugin_id, at=context.clock())
    return ", ".join(
        (
            f"trust {context.trust_store().serial}",
            f"agent {__version__}",
            f"module {context.config.sandbox.max_module_bytes}",
            f"constraint {section.constraint}",
            f"granted {_words(context.config.capabilities.grant)}",
            f"to it {_words(section.grants)}",
            f"not to it {_words(section.deny)}",
            f"by command {_words(c if yes else f'not {c}' for c, yes in decisions.items())}",
        )
    )


def consent_terms(context: Context, plugin_id: str) -> str:
    """What a candidate's waiting for consent depends on: what serves, and what it requests, too."""
    live = context.activation.live(plugin_id)
    serving = f"{live.version} with {_words(live.capabilities)}" if live else "nothing"
    return f"{refusal_terms(context, plugin_id)}, serving {serving}"


def _words(words: Iterable[str]) -> str:
    return " + ".join(sorted(words)) or "nothing"
