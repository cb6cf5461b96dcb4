"""The AsyncAPI 3.0 document and the JSON Schemas of every message, made from the models themselves."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from include.contracts import control, dead_letters, dispatch, events, feedback, requests, topics, workers
from include.contracts.base import Message

MESSAGES_BY_TOPIC: dict[str, tuple[type[Message], ...]] = {
    topics.REALTIME: (requests.GenerationRequest,),
    topics.BATCH: (requests.GenerationRequest,),
    topics.WORKERS: (
        workers.Hello,
        workers.Credit,
        workers.Started,
        workers.RenderProgress,
        workers.Completed,
        workers.Failed,
        workers.Goodbye,
    ),
    topics.EVENTS: (events.StatusEvent, events.SharesEvent, events.ScaleEvent),
    topics.CONTROL: (control.ModelRoute, control.Scenario, control.Policy, control.TenantQuota, control.Cancel),
    topics.DEAD_LETTERS: (dead_letters.DeadLetter,),
    topics.RATINGS: (feedback.Rating,),
    topics.dispatch("POOL"): (dispatch.Lease, dispatch.Revoke),
}


def message_types() -> tuple[type[Message], ...]:
    """Every message model once, in the order of the topics."""
    return tuple(dict.fromkeys(model for models in MESSAGES_BY_TOPIC.values() for model in models))


def json_schemas() -> dict[str, dict[str, Any]]:
    """A self-contained JSON Schema (2020-12) by message name."""
    return {model.__name__: model.model_json_schema() for model in message_types()}


def _channel(topic: topics.Topic) -> dict[str, Any]:
    models = MESSAGES_BY_TOPIC[topic.name]
    return {
        "address": f"{{prefix}}{topic.name}",
        "description": f"From {topic.producer} to {topic.consumer}.",
        "parameters": {"prefix": {"$ref": "#/components/parameters/prefix"}},
        "messages": {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in models},
        "bindings": {"kafka": {"partitions": topic.partitions, "topicConfiguration": topic.config}},
    }


def _operations(documented: tuple[topics.Topic, ...]) -> dict[str, Any]:
    sent_by_router = {topics.EVENTS, topics.DEAD_LETTERS, topics.dispatch("POOL")}
    return {
        topic.name: {
            "action": "send" if topic.name in sent_by_router else "receive",
            "channel": {"$ref": f"#/channels/{topic.name}"},
            "summary": f"The router {'writes' if topic.name in sent_by_router else 'reads'} {topic.name}.",
        }
        for topic in documented
        if topic.name != topics.RATINGS  # the archive reads these
    }


def document(version: str) -> dict[str, Any]:
    """The whole AsyncAPI document, seen from the router."""
    _, schemas = models_json_schema([(model, "validation") for model in message_types()], ref_template="#/components/schemas/{model}")
    documented = (*topics.TOPICS, topics.dispatch_topic("POOL"))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Atelier",
            "version": version,
            "description": "The messages between producers, the router, workers and everyone who watches. JSON, UTF-8.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in documented},
        "operations": _operations(documented),
        "components": {
            "parameters": {"prefix": {"description": "Prefix of the installation's topics.", "default": "atelier."}},
            "messages": {
                model.__name__: {
                    "summary": (model.__doc__ or model.__name__).splitlines()[0],
                    "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
                }
                for model in message_types()
            },
            "schemas": schemas["$defs"],
        },
    }
