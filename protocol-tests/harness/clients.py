"""The clients: how each is made ready, and what is run for it."""

import sys

from . import paths, setup

# A client's program that prints nothing for so long has hung; its own steps give up long before.
SILENCE_SECONDS = 150


def _java():
    classes, libraries = setup.java() / "classes", setup.kafka() / "libs"
    return ["java", f"-Dlog4j2.configurationFile={paths.CLIENTS / 'java' / 'log4j2.properties'}", "-cp", f"{classes}:{libraries}/*", "Client"]


def _kcat():
    setup.kcat()
    return [sys.executable, paths.CLIENTS / "kcat" / "client.py"]


def _kafka_tools():
    setup.kafka()
    return [sys.executable, paths.CLIENTS / "kafka-tools" / "client.py"]


# Name -> a function that makes the client ready and returns the command, to which BOOTSTRAP PREFIX sql|nosql is added.
ALL = {
    "kcat": _kcat,
    "confluent-kafka": lambda: [setup.python(), paths.CLIENTS / "python" / "client.py"],
    "java": _java,
    "franz-go": lambda: [setup.go("franz")],
    "sarama": lambda: [setup.go("sarama")],
    "kafkajs": lambda: ["node", setup.node() / "client.js"],
    "rdkafka": lambda: [setup.rust() / "rdkafka_client"],
    "kafka-tools": _kafka_tools,
}

_SHARED = ["create_topic", *[f"produce_{codec}" for codec in ("none", "gzip", "snappy", "lz4", "zstd")], "consume_all", "idempotent",
           "offsets", "group_of_two", "commit", "restart_resume"]
_ADMINISTRATION = ["configs", "partitions", "groups", "delete_records", "delete_topic"]
_SQL = ["sql_register", "sql_refused", "sql_answers", "sql_results", "sql_owned"]


def steps(name: str, with_sql: bool) -> list:
    """The steps that a client must do; kcat alone has no administration."""
    return _SHARED + ([] if name == "kcat" else _ADMINISTRATION) + (_SQL if with_sql else [])


def every_step(with_sql: bool) -> list:
    """The rows of the report."""
    return _SHARED + _ADMINISTRATION + (_SQL if with_sql else [])


GARBAGE_STEPS = ["garbage_refused", "garbage_restart"]


def garbage():
    """Not a client of the list: garbage into the admin topic, see clients/python/garbage.py."""
    return [setup.python(), paths.CLIENTS / "python" / "garbage.py"]
