"""The messages between Atelier's parts. One module a topic; everything that speaks on Kafka or HTTP speaks these."""
