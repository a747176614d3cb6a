"""What a person or the schedule asks a registry for."""

from dataclasses import dataclass, field

import registry
from agent.model import Asked


@dataclass(frozen=True, slots=True)
class Wish(Asked):
    """What a person or the schedule asked a registry for.

    Attributes:
        installs: False: the files are only fetched, whatever this host has or could run.
    """

    reference: registry.Reference
    installs: bool = field(default=True, kw_only=True)
