"""Reads with confluent-kafka what another client wrote and compares; the plan comes as one JSON object on stdin.

`records` are in produce order, in chunks of `chunk`; `acks` are [chunk, partition, base offset].
Prints what is wrong and ends with 1, or prints nothing.
"""

import json
import sys

from confluent_client import Client
from plan import Mismatch, Record, check_by_time, expect, verify


def record(made):
    value = None if made["value"] is None else made["value"].encode()
    headers = tuple((key, text.encode()) for key, text in made["headers"].items())
    return Record(made["key"].encode(), value, headers, int(made["timestamp"]))


def main():
    plan = json.load(sys.stdin)
    client = Client()
    sent = [record(made) for made in plan["records"]]
    read = client.read(plan["topic"], client.end_offsets(plan["topic"], plan["partitions"]))
    verify(sent, None, read)
    check_by_time(client, plan["topic"], read)
    bases = {}
    for partition, rows in read.items():
        for offset, row in rows:
            bases.setdefault((int(row.headers[0][1]) // plan["chunk"], partition), offset)
    acked = {(chunk, partition): offset for chunk, partition, offset in plan["acks"]}
    expect("acknowledged base offsets", acked, bases)


if __name__ == "__main__":
    try:
        main()
    except Mismatch as mismatch:
        sys.exit(print(f"read back: {mismatch}") or 1)
