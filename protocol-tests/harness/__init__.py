"""Starts brokers (Millpond, and Apache Kafka as the reference) and drives real clients against them."""
