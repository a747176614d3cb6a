"""Spans, metrics and log records (contract §9) by the OpenTelemetry SDK: free unless it is on.

Off, where no endpoint is set, means that nothing of OpenTelemetry is imported and a span costs
one attribute look-up.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from agent.metrics import Metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

    from sandbox import LogRecord

Value = str | int | float | bool
_EXPORT_TIMEOUT_S = 2
"""Retries included: a collector that is down must not hold up a command."""
_NAME = "stack-composer-agent"
_SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")
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
    """A source of spans, metrics and log records.

    Attributes:
        metrics: Where figures are counted.

    Args:
        endpoint: The OTLP/HTTP base, such as ``http://127.0.0.1:4318``; empty = off.
        scraped: Count also where nothing is sent: ``metrics.prometheus`` will be asked.
    """

    def __init__(self, endpoint: str, *, scraped: bool = False) -> None:
        self._providers: tuple[Any, ...] = ()
        self._meters: Any = None
        self._tracer: Any = None
        self._logger: Any = None
        self.metrics = Metrics()
        if not endpoint and not scraped:
            return
        from opentelemetry.sdk.resources import Resource

        from agent import __version__

        resource = Resource.create({"service.name": _NAME, "service.version": __version__})
        if endpoint:
            self._start(endpoint.rstrip("/"), resource)
        self._start_metrics(endpoint.rstrip("/"), resource, scraped=scraped)

    def _start(self, endpoint: str, resource: "Resource") -> None:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from agent import __version__

        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
        traces.add_span_processor(BatchSpanProcessor(spans))
        logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        records = OTLPLogExporter(endpoint=f"{endpoint}/v1/logs", timeout=_EXPORT_TIMEOUT_S)
        logs.add_log_record_processor(BatchLogRecordProcessor(records))
        self._providers = (traces, logs)
        self._tracer = traces.get_tracer(_NAME, __version__)
        self._logger = logs.get_logger(_NAME, __version__)

    def _start_metrics(self, endpoint: str, resource: "Resource", *, scraped: bool) -> None:
        from opentelemetry.sdk.metrics import MeterProvider

        from agent import __version__

        readers: list[MetricReader] = []
        text = None
        if endpoint:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            figures = OTLPMetricExporter(
                endpoint=f"{endpoint}/v1/metrics", timeout=_EXPORT_TIMEOUT_S
            )
            readers.append(PeriodicExportingMetricReader(figures))
        if scraped:
            import prometheus_client
            from opentelemetry.exporter.prometheus import PrometheusMetricReader

            registry = prometheus_client.CollectorRegistry()
            readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
            text = functools.partial(prometheus_client.generate_latest, registry)
        self._meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self.metrics = Metrics(self._meters.get_meter(_NAME, __version__), text)

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

    def logging(self, take: "Callable[[LogRecord], None]") -> "Callable[[LogRecord], None]":
        """A taker of plugins' log records that sends them too, in the trace they belong to.

        Args:
            take: Takes each record; it alone where nothing listens.
        """
        if self._logger is None:
            return take
        from opentelemetry._logs import SeverityNumber

        severities = tuple(SeverityNumber[name] for name in _SEVERITIES)

        def send(record: "LogRecord") -> None:
            take(record)
            if self._logger is not None:
                self._logger.emit(
                    timestamp=int(record.at_s * 1e9),
                    severity_number=severities[record.level],
                    severity_text=_SEVERITIES[record.level],
                    body=record.message,
                    attributes={"plugin.id": record.plugin_id, "log.iostream": record.source},
                )

        return send

    @property
    def is_on(self) -> bool:
        """Whether anything listens, or counts."""
        return self._tracer is not None or self._meters is not None

    def close(self) -> None:
        """Send what is left; waits a few seconds at most."""
        # Side by side: a collector that is down costs its time once.
        threads = [threading.Thread(target=_finish, args=(one,)) for one in self._providers]
        if self._meters is not None:
            finish = functools.partial(self._meters.shutdown, timeout_millis=3_000)
            threads.append(threading.Thread(target=finish))  # sends what was counted
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._providers, self._tracer, self._logger = (), None, None
        self._meters, self.metrics = None, Metrics()


def _finish(provider: Any) -> None:  # noqa: ANN401 - the SDK's, of spans or log records
    provider.force_flush(timeout_millis=3_000)
    provider.shutdown()


def endpoint_of(configured: str, environ: Mapping[str, str]) -> str:
    """The OTLP endpoint: the config's, else the standard environment variable's."""
    return configured or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")


def log_record(record: "LogRecord") -> None:
    """Pass what a plugin logs on to Python's logging."""
    logging.getLogger("stack_composer.plugin").log(
        _LEVELS[record.level], "%s: %s", record.plugin_id, record.message
    )
