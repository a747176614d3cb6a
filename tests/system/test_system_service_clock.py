"""A machine's clock that is set while the service runs: libfaketime tells it another wall time."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.service import EAGER, service, serving
from support.system import PLUGIN_ID, Machine, Publisher

INLINE = '[sandbox]\nisolation = "inline"\n'
"""A child process may not read the file that says what time it is."""
_MOST_KIB = 300 * 1024
_FAULT = re.compile(r"\w+(Error|Exception|Interrupt)\b")
_OF_THE_LIBRARY = "OSError: [Errno 22] Invalid argument"
"""What ``time.sleep`` raises now and then where the library computes its end while it is set."""


class Clock:
    """The wall clock of a process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")
        (self._library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")

    @property
    def environ(self) -> Mapping[str, str]:
        """Have a process go by this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Set it so far from what it is, such as ``-365d``."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n", encoding="utf-8")
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that is right."""
    return Clock(tmp_path)


def test_a_clock_that_is_set_either_way_stops_nothing(
    machine: Machine, publisher: Publisher, clock: Clock
) -> None:
    """A year back, then two ahead: updates are taken and committed, and memory stays small."""
    machine.configure(INLINE, probation="1s", update=EAGER)
    publisher.release("0.1.0", sample="0.1.0")
    machine.run("pull", PLUGIN_ID)
    with service(machine, environ=clock.environ, is_loud=True) as running:
        publisher.release("0.2.0", sample="0.1.0")
        running.await_event("committed", "0.2.0")
        clock.set("-365d")
        publisher.release("0.3.0", sample="0.1.0")
        running.await_event("committed", "0.3.0")
        clock.set("+365d")
        publisher.release("0.4.0", sample="0.1.0")
        running.await_event("committed", "0.4.0")
        status = Path(f"/proc/{running.process.pid}/status").read_text(encoding="utf-8")
    faults = {line.strip() for line in running.log.lines if _FAULT.match(line)}
    assert faults <= {_OF_THE_LIBRARY}, running.log.lines
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak) < _MOST_KIB


def test_a_trial_that_began_in_the_future_ends_in_time(
    machine: Machine, publisher: Publisher, clock: Clock
) -> None:
    """Taken while the clock was a year ahead; nobody calls it, and it is not looked at either."""
    machine.configure(INLINE, probation="2s", update=f'{EAGER}\nmode = "manual"')
    for version in ("0.1.0", "0.2.0"):
        unasked = {'[health]\nfunc = "health"\n': ""}
        publisher.release(version, sample="0.1.0", edit=unasked)
        machine.run("pull", PLUGIN_ID)
    assert serving(machine)[1] is not None
    clock.set("-365d")
    with service(machine, environ=clock.environ) as running:
        running.await_event("committed", "0.2.0")
