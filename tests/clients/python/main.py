"""Runs one Python client, or all, against FLOTILLA_BOOTSTRAP: `main.py confluent|kafka-python|aiokafka`."""

import logging
import sys

from matrix import CHECKS
from plan import Report, per_codec, roundtrip


def load(name):
    if name == "confluent":
        from confluent_client import Client
    elif name == "kafka-python":
        from kafka_python_client import Client
    elif name == "aiokafka":
        from aiokafka_client import Client
    else:
        sys.exit(f"no client {name!r}: confluent, kafka-python or aiokafka")
    return Client


def main(name):
    logging.disable(logging.CRITICAL)  # aiokafka warns many times a second while a new topic spreads
    client_class = load(name)
    report = Report(client_class.name, client_class.version)
    client = client_class()
    for codec in client.codecs:
        report.check(codec, lambda codec=codec: roundtrip(client, codec, per_codec(client.codecs)))
    for label, check in CHECKS.items():
        report.check(label, lambda check=check: check(client))
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")
