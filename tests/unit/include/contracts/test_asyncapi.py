"""The generated documents cover every topic and are what docs/ holds."""

from __future__ import annotations

import runpy
from pathlib import Path

from include.contracts import asyncapi, topics

DOCS = Path(__file__).parents[4] / "docs"


def test_every_topic_has_messages() -> None:
    documented = {topic.name for topic in (*topics.TOPICS, topics.dispatch_topic("POOL"))}
    assert documented == set(asyncapi.MESSAGES_BY_TOPIC)


def test_every_reference_resolves() -> None:
    document = asyncapi.document("0")

    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        if isinstance(node, list):
            return set().union(*map(references, node))
        return set()

    for reference in references(document):
        found: object = document
        for part in reference.removeprefix("#/").split("/"):
            assert isinstance(found, dict)
            found = found[part]


def test_docs_are_current() -> None:
    assert runpy.run_path(str(DOCS / "generate.py"))["stale"]() == []
