"""A worker's figures for Prometheus.

atelier worker --pool premium --device cuda:0 --metrics 0.0.0.0:9100
curl http://gpu-3:9100/metrics
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

#: Name → what it tells. A name that ends in ``_total`` counts since the start of the process.
METRICS = {
    "models_loaded": "Model versions in memory.",
    "model_bytes": "Bytes of their weights.",
    "model_hits_total": "Leases whose version was loaded already.",
    "model_loads_total": "Versions that were loaded and checked.",
    "model_load_seconds_total": "Seconds that took.",
    "model_load_failures_total": "Versions that could not be loaded, or failed their check.",
    "model_evictions_total": "Versions that made room for others.",
    "prompt_hits_total": "Texts whose embedding was cached.",
    "prompt_misses_total": "Texts that were encoded.",
    "result_hits_total": "Images that were there already.",
    "result_misses_total": "Images that were looked for and not there.",
    "near_hits_total": "Images that were answered with a near one.",
    "requests_completed_total": "Requests that were completed.",
    "leases_held": "Leases that wait or run.",
    "renders_parked": "Renders that were put aside for others.",
    "free_memory_bytes": "Free memory of the device; of the machine for cpu.",
    "draining": "1 while it takes no more leases.",
}


class MetricsError(ValueError):
    """The address for the figures is no good."""


class Figures(Collector):
    """All of :data:`METRICS`, read when asked for, each with the labels."""

    def __init__(self, read: Callable[[], Mapping[str, float]], labels: Mapping[str, str]) -> None:
        self._read = read
        self._labels = dict(labels)

    def describe(self) -> Iterable[Metric]:
        """What there will be, so that registering asks for no figure yet."""
        return [self._family(name) for name in METRICS]

    def collect(self) -> Iterable[Metric]:
        for name, value in self._read().items():
            family = self._family(name)
            family.add_metric(list(self._labels.values()), value)
            yield family

    def _family(self, name: str) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        return kind(f"atelier_worker_{name}", METRICS[name], labels=list(self._labels))


@contextmanager
def serve_metrics(address: str, figures: Figures) -> Iterator[str]:
    """Answers at HOST:PORT inside; gives the address, with the port that it got for port 0.

    Raises :class:`MetricsError` for what is no address, or can't be listened at.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise MetricsError(f"--metrics {address!r}: use HOST:PORT, such as 127.0.0.1:9100, or 0.0.0.0:9100 for other machines too")
    registry = CollectorRegistry()
    registry.register(figures)
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise MetricsError(f"--metrics {address}: {error.strerror or error}; use another port, or an address of this machine") from error
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
