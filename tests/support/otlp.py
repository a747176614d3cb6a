"""A collector: an OTLP/HTTP receiver on loopback that keeps what is sent to it."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted: list[tuple[str, bytes]] = []

    @property
    def endpoint(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def paths(self) -> set[str]:
        """Where something was posted."""
        return {path for path, _ in self.posted}

    def traces(self) -> list[ExportTraceServiceRequest]:
        """What was posted of spans."""
        return [ExportTraceServiceRequest.FromString(b) for p, b in self.posted if "traces" in p]

    def every_span(self) -> list[Span]:
        """The spans that arrived, in order: children before their parents."""
        return [
            span
            for request in self.traces()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def spans(self) -> dict[str, Span]:
        """The spans that arrived, by name; of one name the last."""
        return {span.name: span for span in self.every_span()}

    def metrics(self) -> dict[str, Metric]:
        """The figures of the export that arrived last, by name."""
        bodies = [body for path, body in self.posted if "metrics" in path]
        return {
            metric.name: metric
            for body in bodies[-1:]
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def records(self) -> list[LogRecord]:
        """The log records that arrived, in order."""
        requests = [ExportLogsServiceRequest.FromString(b) for p, b in self.posted if "logs" in p]
        return [
            record
            for request in requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


class _Handler(BaseHTTPRequestHandler):
    """Reads one export."""

    def do_POST(self) -> None:
        """Keep it and say yes."""
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a collector."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def points(metric: Metric) -> dict[frozenset[tuple[str, object]], float]:
    """The values of a figure by what they are about; of a histogram how many were recorded."""
    data = getattr(metric, str(metric.WhichOneof("data")))
    return {
        frozenset(attributes(point).items()): point.count
        if metric.HasField("histogram")
        else getattr(point, str(point.WhichOneof("value")))
        for point in data.data_points
    }


def attributes(sent: Any) -> dict[str, object]:  # a span or a record
    """The facts of what was sent."""
    return {
        fact.key: getattr(fact.value, str(fact.value.WhichOneof("value")))
        for fact in sent.attributes
    }
