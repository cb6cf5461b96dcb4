"""What can go wrong between a client and Kafka."""

from __future__ import annotations


class BrokerUnavailableError(ConnectionError):
    """No broker answered in time; the message says which address was tried. Trying again later may succeed."""


class DeliveryError(RuntimeError):
    """The broker did not acknowledge a message; it may or may not be on the topic. Sending it again with the same id is safe."""
