"""A crash at every effect of making a new ledger, and a second one while that is begun again."""

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.context import Context, Options
from agent.doctor.examination import examine
from agent.files import Files
from support.agent import NOW, Crash, DyingFiles, DyingLedger, Fuse
from support.system import PLUGIN_ID, Machine, taken


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A host that left 0.3.0, which is rejected: 0.2.0 serves, and 0.1.0 is kept."""
    machine = taken(tmp_path_factory.mktemp("rebuild"), "0.1.0", "0.2.0", "0.4.0").machine
    machine.run("rollback", PLUGIN_ID)
    machine.run("rollback", PLUGIN_ID, "--to", "0.1.0")
    return machine


def lost(home: Path) -> None:
    """The ledger is gone."""
    for path in (home / "state").glob("state.db*"):
        path.unlink()


def damaged(home: Path) -> None:
    """The ledger is there, and is none."""
    path = home / "state" / "state.db"
    path.write_bytes(b"no ledger" * (path.stat().st_size // 9))


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
        assert current is not None
        assert current.startswith("0.1.0-")


def check_mended(home: Path) -> None:
    """The doctor is content without mending, and what the tree knew is known again."""
    assert not mend(home, Fuse())
    with looking(home) as context:
        assert [finding.detail for finding in examine(context) if not finding.ok] == []
        live = context.activation.live(PLUGIN_ID)
        assert live is not None
        assert live.version == "0.1.0"
        installed = context.ledger.installed(PLUGIN_ID)
        assert installed is not None
        assert (installed.good, installed.floor) == (live.release, "0.4.0")
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


@pytest.mark.parametrize("spoil", [lost, damaged])
def test_a_rebuild_that_dies_is_begun_again(
    template: Machine, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Whatever was done before, the next run ends with the same ledger; nothing moves meanwhile."""
    start = copy_of(template.home, tmp_path / "start")
    spoil(start)
    first, died = 0, True
    while died:
        left = copy_of(start, tmp_path / f"{first}")
        died = mend(left, Fuse(first))
        check_unfinished(left)
        second = 0
        while died and mend(again := copy_of(left, tmp_path / f"{first}-{second}"), Fuse(second)):
            check_unfinished(again)
            check_mended(again)
            second += 1
        check_mended(left)
        first += 1
    assert first > 10
