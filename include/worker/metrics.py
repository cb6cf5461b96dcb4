"""A worker's figures over HTTP, in the text format that Prometheus reads.

atelier worker --pool premium --device cuda:0 --metrics 0.0.0.0:9100
curl http://gpu-3:9100/metrics
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsError(ValueError):
    """The address for the figures is no good."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure. A name that ends in ``_total`` counts since the start of the process."""

    name: str
    words: str

    @property
    def kind(self) -> str:
        return "counter" if self.name.endswith("_total") else "gauge"


METRICS = (
    Metric(name="models_loaded", words="Model versions in memory."),
    Metric(name="model_bytes", words="Bytes of their weights."),
    Metric(name="model_hits_total", words="Leases whose version was loaded already."),
    Metric(name="model_loads_total", words="Versions that were loaded and checked."),
    Metric(name="model_load_seconds_total", words="Seconds that took."),
    Metric(name="model_load_failures_total", words="Versions that could not be loaded, or failed their check."),
    Metric(name="model_evictions_total", words="Versions that made room for others."),
    Metric(name="prompt_hits_total", words="Texts whose embedding was cached."),
    Metric(name="prompt_misses_total", words="Texts that were encoded."),
    Metric(name="result_hits_total", words="Images that were there already."),
    Metric(name="result_misses_total", words="Images that were looked for and not there."),
    Metric(name="near_hits_total", words="Images that were answered with a near one."),
    Metric(name="requests_completed_total", words="Requests that were completed."),
    Metric(name="leases_held", words="Leases that wait or run."),
    Metric(name="renders_parked", words="Renders that were put aside for others."),
    Metric(name="free_memory_bytes", words="Free memory of the device; of the machine for cpu."),
    Metric(name="draining", words="1 while it takes no more leases."),
)


def exposition(figures: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """All of :data:`METRICS` that are among the figures, each with the labels, whose values need no quoting."""
    said = ",".join(f'{name}="{value}"' for name, value in labels.items())
    lines = []
    for metric in METRICS:
        if metric.name in figures:
            name = f"atelier_worker_{metric.name}"
            lines += [f"# HELP {name} {metric.words}", f"# TYPE {name} {metric.kind}", f"{name}{{{said}}} {figures[metric.name]:.10g}"]
    return "\n".join(lines) + "\n"


@contextmanager
def serve_metrics(address: str, text: Callable[[], str]) -> Iterator[str]:
    """Answers ``/metrics`` at HOST:PORT with ``text()`` inside; gives the address, with the port that it got for port 0.

    Raises :class:`MetricsError` for what is no address, or can't be listened at.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise MetricsError(f"--metrics {address!r}: use HOST:PORT, such as 127.0.0.1:9100, or 0.0.0.0:9100 for other machines too")
    try:
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), _handler(text))
    except OSError as error:
        raise MetricsError(f"--metrics {address}: {error.strerror or error}; use another port, or an address of this machine") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(text: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "the figures are at /metrics")
                return
            body = text().encode()
            self.send_response(200)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:
            log.debug(format, *values)

    return Handler
