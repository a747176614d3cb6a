"""The control API against its own document: requests made from it, answers held to it."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from requests.adapters import HTTPAdapter
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from agent.control.bounds import Bounds
from agent.control.document import document
from support.control import WAIT_S, Control, controlled
from support.system import PLUGIN_ID, taken

QUICK = Bounds(stream_s=0.05, beat_s=0.02)
schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """One service for all of it, over a real host."""
    own = taken(tmp_path_factory.mktemp("document"), "0.1.0", "0.2.0")
    with controlled(own.machine.home, QUICK) as running:
        running.ask("POST", f"/v1/plugins/{PLUGIN_ID}/calls", {"args": ["Jane"]})
        yield running


@pytest.fixture(scope="module")
def session(control: Control) -> Iterator[requests.Session]:
    """A client that speaks over the socket."""

    class Connection(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(WAIT_S)
            self.sock.connect(str(control.path))

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class Adapter(HTTPAdapter):
        def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Pool:
            return pool

    pool = Pool("localhost")
    with requests.Session() as session:
        session.mount("http://", Adapter())
        yield session
    pool.close()


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_document_says(
    case: schemathesis.Case[Any], control: Control, session: requests.Session
) -> None:
    """Status, content type and shape; no request makes the service stumble."""
    response = case.call(base_url="http://localhost", session=session)
    # What a function takes is the plugin's to say, and unknown headers mean nothing.
    case.validate_response(
        response, excluded_checks=[positive_data_acceptance, negative_data_rejection]
    )
    assert response.status_code != 500
    assert control.server.is_alive


def test_every_path_of_the_document_is_there_and_no_other(control: Control) -> None:
    """The routes and the document are two lists of the same."""
    routes = control.server._api._router.routes
    listed = {
        (path, method.upper()) for path, item in document()["paths"].items() for method in item
    }
    there = {
        (getattr(route, "path", ""), method)
        for route in routes
        for method in getattr(route, "methods", ())
        if method != "HEAD"
    }
    assert there == listed
