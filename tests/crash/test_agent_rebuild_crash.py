"""A crash at every effect of making a ledger anew, or of bringing an older one up to date."""

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.context import Context, Options
from agent.doctor.examination import examine
from agent.errors import DamagedError
from agent.files import Files
from agent.model import Event, Hold, Stop
from agent.tree.remembering import decisions_on, recall, remember
from support.agent import NOW, Crash, DyingFiles, DyingLedger, Fuse
from support.system import PLUGIN_ID, Machine, taken

# Told hundreds of times over: counting lines, which others count too, would take as long again.
pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A host that left 0.3.0, which is rejected: 0.2.0 serves, and 0.1.0 is kept."""
    machine = taken(tmp_path_factory.mktemp("rebuild"), "0.1.0", "0.2.0", "0.4.0").machine
    machine.run("rollback", PLUGIN_ID)
    state = machine.home / "state"
    shutil.copy(state / "state.db", state / "backup")
    machine.run("rollback", PLUGIN_ID, "--to", "0.1.0")
    machine.run("hold", PLUGIN_ID)
    machine.run("deny", PLUGIN_ID, "network")
    return machine


@pytest.fixture(scope="module")
def stopped(template: Machine, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The same, disabled by a run that died before it was taken away."""
    home = tmp_path_factory.mktemp("stopped") / "home"
    shutil.copytree(template.home, home, symlinks=True)
    with looking(home) as context, context.tree.lock(timeout_s=1):
        event = Event(NOW, PLUGIN_ID, "disabled", None, None, "")
        context.ledger.stop(PLUGIN_ID, Stop.DISABLED, event)
        remember(context.ledger, context.tree, PLUGIN_ID)
    return Machine(home)


def lost(home: Path) -> None:
    """The ledger is gone."""
    for path in (home / "state").glob("state.db*"):
        path.unlink()


def damaged(home: Path) -> None:
    """The ledger is there, and is none."""
    path = home / "state" / "state.db"
    path.write_bytes(b"no ledger" * (path.stat().st_size // 9))


def older(home: Path) -> None:
    """A copy from before the last rollback lies there again."""
    lost(home)
    (home / "state" / "backup").rename(home / "state" / "state.db")


@contextlib.contextmanager
def looking(home: Path, files: Files | None = None) -> Iterator[Context]:
    """The installation as a process of its own sees it."""
    context = Context(
        Options(home=home), environ={}, files=files or Files(), clock=lambda: NOW + 1e6
    )
    with contextlib.closing(context):
        yield context


def mend(home: Path, fuse: Fuse) -> bool:
    """Run the doctor until the fuse has burnt down; whether it did."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.context.Ledger", functools.partial(DyingLedger, fuse=fuse))
        with looking(home, DyingFiles(fuse)) as context:
            try:
                list(examine(context, fix=True))
            except Crash:
                return True
    return False


def check_unfinished(home: Path) -> None:
    """After a crash nothing else serves than before."""
    with looking(home) as context:
        current = context.tree.current(PLUGIN_ID)
        memory = recall(context.tree, PLUGIN_ID)
        assert memory is not None
        assert memory.stop is not None or (current or "").startswith("0.1.0-")
        assert (current or "0.1.0-").startswith("0.1.0-")
        with contextlib.suppress(DamagedError):  # then nothing is loaded
            decisions = decisions_on(context.ledger, context.tree, PLUGIN_ID)
            assert decisions == {"network": False}


def check_mended(home: Path, *, is_stopped: bool) -> None:
    """The doctor is content without mending, and what the tree knew is known again."""
    assert not mend(home, Fuse())
    with looking(home) as context:
        assert [finding.detail for finding in examine(context) if not finding.ok] == []
        good = context.activation.good(PLUGIN_ID)
        assert good is not None
        assert good.version == "0.1.0"
        assert context.activation.live(PLUGIN_ID) == (None if is_stopped else good)
        assert not context.activation.is_unfinished(PLUGIN_ID)
        installed = context.ledger.installed(PLUGIN_ID)
        assert installed is not None
        assert installed.floor == "0.4.0"
        assert installed.stop is (Stop.DISABLED if is_stopped else None)
        assert context.ledger.hold_of(PLUGIN_ID) == Hold(None)
        assert context.ledger.decisions(PLUGIN_ID) == {"network": False}
        rejected = context.ledger.rejections(PLUGIN_ID).values()
        assert {rejection.version for rejection in rejected} == {"0.4.0", "0.2.0"}
        kept = context.ledger.generations(PLUGIN_ID)
        assert {g.version for g in kept if g.committed_at is not None} == {
            *("0.1.0", "0.2.0", "0.4.0"),
        }
        assert context.stranger() is None


def copy_of(home: Path, target: Path) -> Path:
    """The disk as the dead process left it."""
    shutil.copytree(home, target, symlinks=True)
    return target


@pytest.mark.parametrize(
    ("spoil", "is_stopped"),
    [(lost, False), (damaged, False), (older, False), (lost, True), (older, True)],
)
def test_a_rebuild_that_dies_is_begun_again(
    template: Machine,
    stopped: Machine,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    *,
    is_stopped: bool,
) -> None:
    """Whatever was done before, the next run ends with the same ledger; nothing moves meanwhile."""
    # Of the stopped, which differ at the end alone, every third of the second moments.
    stride = 3 if is_stopped else 1
    check = functools.partial(check_mended, is_stopped=is_stopped)
    start = copy_of((stopped if is_stopped else template).home, tmp_path / "start")
    spoil(start)
    first, died = 0, True
    while died:
        left = copy_of(start, tmp_path / f"{first}")
        died = mend(left, Fuse(first))
        check_unfinished(left)
        second = 0
        while died and mend(again := copy_of(left, tmp_path / f"{first}-{second}"), Fuse(second)):
            check_unfinished(again)
            check(again)
            second += stride
        check(left)
        first += 1
    assert first > 10
