"""What every execution of a worker works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from include.worker.adapters import AdapterShelf
from include.worker.cache import ModelCache
from include.worker.parked import ParkedRenders
from include.worker.ports import Ports
from include.worker.previews import PreviewWriter
from include.worker.results import ResultStore


@dataclass(frozen=True, kw_only=True)
class Tools:
    cache: ModelCache
    results: ResultStore
    adapters: AdapterShelf
    parked: ParkedRenders
    previews: PreviewWriter | None = None  #: None: no previews are made
    ports: Ports = field(default_factory=Ports)
    max_items: int = 8  #: images rendered at a time at most
    device: str = "cpu"
