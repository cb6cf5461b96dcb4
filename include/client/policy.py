"""The policy and the quotas as the control topic has them, and how to change them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from include.client.producer import TopicProducer
from include.client.scanning import TopicScan
from include.config import Settings
from include.contracts import topics
from include.contracts.control import ControlMessage, Policy, TenantQuota, control_messages
from include.contracts.errors import refusal_of

Wanted = TypeVar("Wanted", bound=ControlMessage)


class PolicyError(ValueError):
    """A file that is no policy; the text names the field and the fix."""


def read_control(settings: Settings, wanted: type[Wanted]) -> dict[str, Wanted]:
    """The newest message of each key of one kind. Raises :class:`BrokerUnavailableError`."""
    found: dict[str, Wanted] = {}
    for record in TopicScan(settings, topics.CONTROL):
        message = _parsed(record.value)
        if isinstance(message, wanted):
            found[message.key] = message
    return found


def current_policy(settings: Settings) -> Policy | None:
    """None where nobody has sent one, so that the built-in one holds."""
    return next(iter(read_control(settings, Policy).values()), None)


def load_policy(path: Path, by: str) -> Policy:
    """A policy from a YAML or JSON file. Raises :class:`PolicyError`."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise PolicyError(f"{path}: must hold the fields of a policy; `atelier policy` prints the present one to start from")
    try:
        return Policy.model_validate_json(json.dumps({**content, "kind": "policy", "at": time.time(), "by": by}))
    except ValidationError as error:
        raise PolicyError(f"{path}: {refusal_of(error).message}") from error


def dump_policy(policy: Policy) -> str:
    """As YAML, without what :func:`load_policy` fills in."""
    content = policy.model_dump(mode="json", exclude={"kind", "at", "by", "schema_version"}, exclude_none=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def publish(settings: Settings, message: Policy | TenantQuota) -> None:
    """Raises :class:`DeliveryError`."""
    with TopicProducer(settings) as producer:
        producer.put(topics.CONTROL, message.to_json(), message.key)


def _parsed(value: bytes | None) -> ControlMessage | None:
    try:
        return None if value is None else control_messages.validate_json(value)
    except ValidationError:
        return None
