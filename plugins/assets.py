"""The assets that connect the DAGs.

The first say what exists; their events are the history of datasets, versions, measurements and promotions. The ``*_REQUESTS`` start the
next DAG: a run adds an event to one of them, through the alias of its task, only where it was started with "then …" ticked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, AssetAlias

DATASETS = Asset(name="dataset_versions", uri="atelier://datasets/versions", group="atelier")
MODELS = Asset(name="model_versions", uri="atelier://models/versions", group="atelier")
COMPRESSIONS = Asset(name="model_compressions", uri="atelier://models/compressions", group="atelier")
EVALUATIONS = Asset(name="model_evaluations", uri="atelier://models/evaluations", group="atelier")
CHAMPIONS = Asset(name="champions", uri="atelier://models/champions", group="atelier")

TRAINING_REQUESTS = Asset(name="training_requests", uri="atelier://requests/training", group="atelier")
EVALUATION_REQUESTS = Asset(name="evaluation_requests", uri="atelier://requests/evaluation", group="atelier")
PROMOTION_REQUESTS = Asset(name="promotion_requests", uri="atelier://requests/promotion", group="atelier")

NEXT_STEP = AssetAlias("next_step", group="atelier")


def with_request(params: Mapping[str, Any], events: Mapping[Asset, Any] | None, asset: Asset) -> dict[str, Any]:
    """The run's parameters, with those that were left as they are taken from the newest request that started it.

    A run that nobody requested, or whose request got lost, works on the newest dataset or version.
    """
    requests = list((events or {}).get(asset, ()))
    asked = dict(requests[-1].extra) if requests else {}
    return {**params, **{name: value for name, value in asked.items() if name in params}}
