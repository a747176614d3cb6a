"""Hosts of other makes: they open the three flat files one after the other, whenever they like."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from agent.context import LOCK_TIMEOUT_S, Context, Options
from agent.pipeline.dropins import DropIns
from agent.telemetry import Telemetry
from support.system import PLUGIN_ID, STEM, Machine, Publisher

READER_WAIT_S = 60
ROUNDS = 8
FLIPS = 25
_READER = """
import hashlib, json, pathlib, sys, tomllib
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

flat, stop, public = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
key = load_pem_public_key(pathlib.Path(public).read_bytes())
believed, torn = set(), 0
print("reading", flush=True)
while not stop.exists():
    try:
        toml = flat.with_suffix(".toml").read_bytes()
        sig = flat.with_suffix(".sig").read_bytes()
        wasm = flat.with_suffix(".wasm").read_bytes()
        plugin = tomllib.loads(toml.decode())["plugin"]
        statement = (
            "stack-composer-plugin/v1\\n"
            f"id: {plugin['id']}\\nversion: {plugin['version']}\\n"
            f"manifest-sha256: {hashlib.sha256(toml).hexdigest()}\\n"
            f"payload-sha256: {hashlib.sha256(wasm).hexdigest()}\\n"
        ).encode()
        key.verify(bytes.fromhex(sig.decode()), statement)
        believed.add(hashlib.sha256(statement).hexdigest())
    except (OSError, ValueError, KeyError, InvalidSignature):
        torn += 1
print(json.dumps({"believed": sorted(believed), "torn": torn}))
"""


def test_who_opens_the_flat_files_one_by_one_never_believes_a_wrong_set(tmp_path: Path) -> None:
    """During updates, rollbacks and drop-ins: what verifies is a release that the ledger knew."""
    machine = Machine(tmp_path / "home", f"oci:{tmp_path / 'offers'}")
    publisher = Publisher(machine, tmp_path / "publisher")
    publisher.trusted_by(machine)
    machine.configure(probation="0s")
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    stop = tmp_path / "stop"
    command = [sys.executable, "-c", _READER, str(machine.plugins / STEM), str(stop)]
    with subprocess.Popen(
        [*command, str(publisher.public)], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        try:
            assert reader.stdout.readline() == "reading\n"
            known = _live_brutally(machine, publisher)
            stop.touch()
            seen = json.loads(reader.communicate(timeout=READER_WAIT_S)[0])
        finally:
            reader.kill()
    assert set(seen["believed"]) <= known
    assert len(seen["believed"]) > 1


def _live_brutally(machine: Machine, publisher: Publisher) -> set[str]:
    """Drop-ins, and flips to and fro between them; the releases that the ledger knew."""
    known = set()
    context = Context(Options(home=machine.home), environ={})
    activation, ledger = context.activation, context.ledger
    try:
        for round_ in range(2, ROUNDS + 2):
            version = f"0.{round_}.0"
            folder = publisher.plugin(version, sample="0.1.0")
            machine.run("sign", folder, "--key", publisher.key)
            for part in ("wasm", "sig", "toml"):
                shutil.copy(folder / f"{STEM}.{part}", machine.plugins)
            (taken,) = DropIns(context, Telemetry("")).adopt()
            assert (taken.after, taken.error) == (version, None)
            new, old = ledger.generations(PLUGIN_ID)[:2]
            known |= {new.release, old.release}
            with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
                for _ in range(FLIPS):
                    activation.turn_back(new, old, kind="rollback", reason="to and fro")
                    activation.activate(new, probation_s=0, channel=None)
    finally:
        context.close()
    return known
