"""An update that waits for consent: what an unchanged check costs, and what makes it look anew."""

import pytest

from support.system import PLUGIN_ID, CountedRegistry, Machine, Publisher

RETRIEVAL = {'["log"]': '["log", "retrieval"]'}
BOTH = {'["log"]': '["log", "plan", "retrieval"]'}


@pytest.fixture(params=["versions", "channel"])
def waiting(
    request: pytest.FixtureRequest, machine: Machine, publisher: Publisher, docker: CountedRegistry
) -> Machine:
    """A host whose plugin has an update that newly requests retrieval, by version or channel."""
    channel = ("--tag", "stable") if request.param == "channel" else ()
    publisher.release("0.1.0", *channel)
    machine.run("pull", f"{PLUGIN_ID}:stable" if channel else PLUGIN_ID)
    publisher.release("0.2.0", *channel, edit=RETRIEVAL)
    docker.requests()
    return machine


@pytest.mark.parametrize("first", ["check", "update"])
def test_an_unchanged_check_is_one_request(
    waiting: Machine, docker: CountedRegistry, first: str
) -> None:
    """Whoever looked first, the next ones ask once, and say the very same."""
    waiting.run(first)
    assert len(docker.requests()) == 4
    planned = waiting.json("check").row
    assert (planned["action"], planned["candidate"]) == ("wait", "0.2.0")
    row = waiting.json("update").row
    assert (row["outcome"], row["step"], row["to"]) == ("pending", "consent", "0.2.0")
    named = waiting.json("update", PLUGIN_ID, expect=8)
    assert named.row == row
    assert f"agent grant {PLUGIN_ID} retrieval" in named.err
    assert len(docker.requests()) == 3
    waiting.run("pull", PLUGIN_ID, expect=8)
    docker.requests()
    # As it was found: by another run that looked at all of it.
    waiting.run("grant", PLUGIN_ID, "plan")
    assert waiting.json("update").row == row
    assert len(docker.requests()) > 1


@pytest.mark.parametrize("word", ["grant", "deny"])
def test_a_decision_has_it_looked_at_anew(waiting: Machine, word: str) -> None:
    """Granted or denied, by command, it is taken at the next run."""
    waiting.run("update")
    waiting.run(word, PLUGIN_ID, "retrieval")
    assert waiting.json("update").row["outcome"] == "trial"


@pytest.mark.parametrize("key", ["grants", "deny"])
def test_the_config_has_it_looked_at_anew(waiting: Machine, key: str) -> None:
    """So do the config's keys."""
    waiting.run("update")
    waiting.configure(f'[plugins."{PLUGIN_ID}"]\n{key} = ["retrieval"]\n')
    assert waiting.json("update").row["outcome"] == "trial"


def test_what_serves_has_it_looked_at_anew(waiting: Machine, publisher: Publisher) -> None:
    """An installed release that requests the same needs no consent."""
    waiting.run("update")
    publisher.release("0.1.5", edit=RETRIEVAL, sample="0.1.0")
    waiting.configure('[capabilities]\ngrant = ["log", "retrieval"]\n', probation="0s")
    waiting.run("pull", f"{PLUGIN_ID}:0.1.5")
    waiting.configure()
    row = waiting.json("update").row
    assert (row["outcome"], row["to"]) == ("trial", "0.2.0")


def test_a_revoked_key_has_it_looked_at_anew(waiting: Machine, publisher: Publisher) -> None:
    """What is believed no more does not go on waiting."""
    waiting.run("update")
    waiting.run("trust", "revoke", publisher.key_id, "--reason", "lost")
    assert waiting.json("update", expect=7).row["outcome"] == "refused"


def test_another_release_has_it_looked_at_anew(
    waiting: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """A newer version, or a channel that was moved on: it says what this one asks for."""
    waiting.run("update")
    publisher.release("0.3.0", "--tag", "stable", edit=BOTH, sample="0.2.0")
    row = waiting.json("update").row
    assert (row["outcome"], row["to"]) == ("pending", "0.3.0")
    assert row["detail"] == "newly requests plan, retrieval"
    docker.requests()
    assert waiting.json("update").row == row
    assert len(docker.requests()) == 1
