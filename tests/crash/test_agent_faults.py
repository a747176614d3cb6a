"""A disk that refuses: at each effect of each verb, in each of the ways that disks have."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

import registry
from agent.context import LOCK_TIMEOUT_S, Context, Options
from agent.doctor.examination import examine
from agent.errors import translated
from agent.files import Files
from agent.ledger.ledger import Ledger
from agent.model import Outcome, Stop
from agent.pipeline.dropins import DropIns
from agent.pipeline.settling import settle
from agent.pipeline.update import Pipeline
from agent.pipeline.wish import Wish
from agent.telemetry import Telemetry
from agent.tree.pruning import prune, prune_compiled
from agent.tree.remembering import stop_on
from agent.verbs.disabling import disable, enable
from agent.verbs.removal import remove
from agent.verbs.rollback import roll_back
from support.system import PLUGIN_ID, STEM, Machine, Publisher

ONCE = (errno.EIO, errno.EACCES, errno.EMFILE)
LASTING = (errno.ENOSPC, errno.EROFS)
OLD, NEW = "0.1.0", "0.2.0"


class FaultyFiles(Files):
    """A disk that refuses the n-th effect; a full or read-only one, all those after it too.

    Args:
        sound: How many effects come first.
        code: The errno.
    """

    def __init__(self, sound: int, code: int) -> None:
        self._sound = sound
        self._code = code
        self.refused = 0

    def _effect(self, path: Path, *, frees: bool = False) -> None:
        self._sound -= 1
        # A full disk lets things be removed.
        lasts = self._code == errno.EROFS or (self._code == errno.ENOSPC and not frees)
        if self._sound == -1 or (self._sound < -1 and lasts):
            self.refused += 1
            raise OSError(self._code, os.strerror(self._code), str(path))

    def make_folder(self, path: Path, *, mode: int = 0o755) -> None:
        """An effect."""
        self._effect(path)
        super().make_folder(path, mode=mode)

    @contextmanager
    def temporary(self, folder: Path, *, mode: int = 0o600) -> Iterator[tuple[BinaryIO, Path]]:
        """An effect."""
        self._effect(folder)
        with super().temporary(folder, mode=mode) as opened:
            yield opened

    def rename(self, source: Path, target: Path) -> None:
        """An effect."""
        self._effect(target)
        super().rename(source, target)

    def sync_file(self, path: Path) -> None:
        """An effect: what the disk could not take is told now."""
        self._effect(path, frees=path.is_dir())

    def seal_folder(self, path: Path, *, mode: int) -> None:
        """An effect."""
        self._effect(path)
        super().seal_folder(path, mode=mode)

    def remove(self, path: Path) -> None:
        """An effect."""
        self._effect(path, frees=True)
        super().remove(path)

    def remove_tree(self, path: Path) -> None:
        """An effect."""
        self._effect(path, frees=True)
        super().remove_tree(path)

    @contextmanager
    def lock(self, path: Path, *, timeout_s: float) -> Iterator[None]:
        """An effect: the lock's file is opened."""
        self._effect(path)
        with super().lock(path, timeout_s=timeout_s):
            yield


# -- the verbs, each with what it leaves where it succeeds


def _pull(context: Context) -> Outcome:
    reference = registry.parse_reference(PLUGIN_ID, context.bases())
    return Pipeline(context, Telemetry("")).pull(Wish(reference))


def _update(context: Context) -> Outcome:
    return Pipeline(context, Telemetry("")).update(PLUGIN_ID, named=True)


def _roll_back(context: Context) -> Outcome:
    return roll_back(context, Telemetry(""), PLUGIN_ID, to_version=None, dry_run=False)


def _prune(context: Context) -> None:
    with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
        context.activation.recover()
        prune(context, PLUGIN_ID)
    prune_compiled(context)


def _disable(context: Context) -> Outcome:
    return disable(context, Telemetry(""), PLUGIN_ID, dry_run=False)


def _enable(context: Context) -> Outcome:
    return enable(context, Telemetry(""), PLUGIN_ID, dry_run=False)


def _remove(context: Context) -> Outcome:
    return remove(context, Telemetry(""), PLUGIN_ID, dry_run=False)


def _adopt(context: Context) -> Outcome | None:
    taken = DropIns(context, Telemetry("")).adopt((PLUGIN_ID,))
    settle(context, Telemetry(""), PLUGIN_ID)
    return taken[0] if taken else None


VERBS: dict[str, tuple[tuple[str, ...], Callable[[Context], Outcome | None], str | None]] = {
    "pull": ((), _pull, NEW),
    "update": ((OLD,), _update, NEW),
    "rollback": ((OLD, NEW), _roll_back, OLD),
    "prune": ((OLD, NEW), _prune, NEW),
    "disable": ((OLD, NEW), _disable, None),
    "enable": ((OLD, NEW), _enable, NEW),
    "remove": ((OLD, NEW), _remove, None),
    "drop-in": ((OLD,), _adopt, NEW),
}


def code_of(verb: Callable[[Context], Outcome | None], context: Context) -> int:
    """The exit code that the verb ends with."""
    try:
        outcome = verb(context)
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        return cause.exit_code
    return outcome.error.exit_code if outcome is not None and outcome.error is not None else 0


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each verb a home in which it has something to do."""
    folder = tmp_path_factory.mktemp("faults")
    found = {}
    for name, (installed, _, _) in VERBS.items():
        machine = Machine(folder / name, f"oci:{folder / name / 'offers'}")
        publisher = Publisher(machine, folder / f"{name}-publisher")
        publisher.trusted_by(machine)
        machine.configure(probation="0s")
        publisher.release(OLD)
        for version in installed:
            if version != OLD:
                publisher.release(version)
            machine.run("pull", f"{PLUGIN_ID}:{version}")
        if name == "enable":
            machine.run("disable", PLUGIN_ID)
        if name == "drop-in":
            put = publisher.plugin(NEW)
            machine.run("sign", put, "--key", publisher.key)
            for part in ("wasm", "sig", "toml"):
                shutil.copy(put / f"{STEM}.{part}", machine.plugins)
        elif NEW not in installed:
            publisher.release(NEW)
        machine.configure(probation="0s", update="keep = 1" if name == "prune" else "")
        found[name] = machine.home
    # What is compiled already needs no compiler: the first pull is told quickly too.
    for name in ("pull", "drop-in"):
        shutil.copytree(found["rollback"] / "cache", found[name] / "cache", dirs_exist_ok=True)
    return found


def check_left(context: Context) -> None:
    """Before anyone recovers: what serves is whole, and the ledger says why it serves."""
    name = context.tree.current(PLUGIN_ID)
    if name is None:
        return
    live, trial = context.activation.live(PLUGIN_ID), context.ledger.trial(PLUGIN_ID)
    assert live is not None
    installed = context.ledger.installed(PLUGIN_ID)
    known = {installed.good if installed else None, trial.release if trial else None}
    known |= set(context.ledger.rejections(PLUGIN_ID))
    assert live.release in known
    assert {path.name for path in context.tree.folder(live).iterdir()} >= {
        f"{STEM}.wasm",
        f"{STEM}.sig",
        f"{STEM}.toml",
    }


def check_done(context: Context, version: str | None) -> None:
    """The verb succeeded the second time: this version serves, committed, with its copies.

    None: nothing serves, and there are no copies.
    """
    if version is None:
        assert context.tree.current(PLUGIN_ID) is None
        assert not context.activation.is_unfinished(PLUGIN_ID)
        assert not list(context.tree.root.glob(f"{STEM}.*"))
        return
    live, installed = context.activation.live(PLUGIN_ID), context.ledger.installed(PLUGIN_ID)
    assert live is not None
    assert installed is not None
    assert (live.version, installed.good) == (version, live.release)
    assert not context.activation.is_unfinished(PLUGIN_ID)
    folder = context.tree.folder(live)
    for part in ("wasm", "sig", "toml"):
        flat = context.tree.root / f"{STEM}.{part}"
        assert flat.read_bytes() == (folder / flat.name).read_bytes()
    home = folder.parent
    assert not [path for path in home.iterdir() if path.name.startswith(".staging")]


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("codes", [ONCE, LASTING], ids=["once", "lasting"])
def test_a_disk_that_refuses_an_effect_ends_with_1_and_the_next_run_succeeds(
    homes: dict[str, Path], tmp_path: Path, name: str, codes: tuple[int, ...]
) -> None:
    """Each effect is refused in turn: 1 (0 where it could be done without), nothing half done."""
    _, verb, result = VERBS[name]
    ended, sound = set(), 0
    while True:
        home = tmp_path / f"{sound}"
        shutil.copytree(homes[name], home, symlinks=True)
        files = FaultyFiles(sound, codes[sound % len(codes)])
        with contextlib.closing(Context(Options(home=home), environ={}, files=files)) as context:
            code = code_of(verb, context)
        if not files.refused:
            break
        assert code in (0, 1), f"effect {sound}"
        ended.add(code)
        with contextlib.closing(Context(Options(home=home), environ={})) as context:
            check_left(context)
            before = context.activation.live(PLUGIN_ID)
            done = before is not None and before.version == result and name == "rollback"
            if done:
                # The rejection was written: the flip back is finished, not done once more.
                _prune(context)
            else:
                assert code_of(verb, context) == 0, f"after effect {sound}"
            check_done(context, result)
        sound += 1
    assert code == 0
    assert 1 in ended


@pytest.mark.parametrize("codes", [ONCE, LASTING], ids=["once", "lasting"])
def test_a_stop_beside_a_ledger_that_can_not_be_written_takes_nothing_away_before_its_word(
    homes: dict[str, Path], tmp_path: Path, codes: tuple[int, ...]
) -> None:
    """Each effect in the tree is refused in turn: all serves as before, or the word holds."""
    held, sound = set(), 0
    while True:
        home = tmp_path / f"{sound}"
        shutil.copytree(homes["disable"], home, symlinks=True)
        files = FaultyFiles(sound, codes[sound % len(codes)])
        with contextlib.closing(Context(Options(home=home), environ={}, files=files)) as context:
            context._ledger = Ledger(context.ledger_path)
            context.ledger._run("PRAGMA query_only=ON")  # every write is refused, as on a full disk
            assert code_of(_disable, context) == 1
        with contextlib.closing(Context(Options(home=home), environ={})) as context:
            is_said = stop_on(context.ledger, context.tree, PLUGIN_ID) is Stop.DISABLED
            held.add(is_said)
            known = context.ledger.installed(PLUGIN_ID)
            assert known is not None
            assert known.stop is None
            if not is_said:
                check_done(context, NEW)
            found = list(examine(context, fix=True))
            assert all(finding.ok for finding in found if finding.check != "space"), found
            check_done(context, None if is_said else NEW)
        if not files.refused:
            break
        sound += 1
    assert held == {True, False}
