"""Spans of contract §9 through the OpenTelemetry SDK: off unless an endpoint is set, then free.

Off means that nothing of OpenTelemetry is imported and a span costs one attribute look-up.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sandbox import LogRecord

Value = str | int | float | bool
_EXPORT_TIMEOUT_S = 2
"""Retries included: a collector that is down must not hold up a command."""
_LEVELS = (5, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
"""The plugins' levels as Python's, trace first."""


class Span(Protocol):
    """What the code inside a span may do with it."""

    def set_attribute(self, key: str, value: Value) -> Any:  # noqa: ANN401 - the SDK's signature
        """Add one fact."""


class _NoSpan:
    def set_attribute(self, key: str, value: Value) -> None:
        """Nothing listens."""


_NO_SPAN = _NoSpan()


class Telemetry:
    """A source of spans.

    Args:
        endpoint: The OTLP/HTTP base, such as ``http://127.0.0.1:4318``; empty = off.
    """

    def __init__(self, endpoint: str) -> None:
        self._provider: Any = None
        self._tracer: Any = None
        if endpoint:
            self._start(endpoint)

    def _start(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from agent import __version__

        resource = Resource.create(
            {"service.name": "stack-composer-agent", "service.version": __version__}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(
            endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("stack-composer-agent", __version__)

    @contextlib.contextmanager
    def _recorded(self, name: str, attributes: Mapping[str, Value]) -> Iterator[Span]:
        with self._tracer.start_as_current_span(name, attributes=attributes) as span:
            yield span

    def span(self, name: str, **attributes: Value) -> contextlib.AbstractContextManager[Span]:
        """A span around a block; nested blocks become its children.

        Args:
            name: Such as ``agent.fetch``.
            attributes: ``plugin_id`` is sent as ``plugin.id``: the first underscore is a dot.
        """
        if self._tracer is None:
            return contextlib.nullcontext(_NO_SPAN)
        dotted = {key.replace("_", ".", 1): value for key, value in attributes.items()}
        return self._recorded(name, dotted)

    @property
    def is_on(self) -> bool:
        """Whether anything listens."""
        return self._tracer is not None

    def close(self) -> None:
        """Send what is left; waits a few seconds at most."""
        if self._provider is not None:
            self._provider.force_flush(timeout_millis=3_000)
            self._provider.shutdown()
            self._provider = self._tracer = None


def endpoint_of(configured: str, environ: Mapping[str, str]) -> str:
    """The OTLP endpoint: the config's, else the standard environment variable's."""
    return configured or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")


def log_record(record: "LogRecord") -> None:
    """Pass what a plugin logs on to Python's logging."""
    logging.getLogger("stack_composer.plugin").log(
        _LEVELS[record.level], "%s: %s", record.plugin_id, record.message
    )
