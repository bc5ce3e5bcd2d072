"""A participant of the booking saga that shares no code with this project: it takes the place of the payment worker.

Reads commands in both formats with fastavro, the schemas of ids from the registry with confluent-kafka's client, and
answers in the format that it is told. Prints a line for each command. Remembers nothing: for tests only.
"""

import argparse
import io
import json
import pathlib
import struct
import uuid

import fastavro
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from fastavro.schema import fingerprint, to_parsing_canonical_form

INBOX_RECORD = "payment.PaymentCompleted"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--registry", required=True)
    parser.add_argument("--schemas", required=True, type=pathlib.Path)
    parser.add_argument("--answer", required=True, choices=["ids", "single-object"])
    return parser.parse_args()


class Schemas:
    """All schemas of a folder by fingerprint, and those of a registry by id."""

    def __init__(self, folder, registry):
        self.registry = registry
        self.by_id = {}
        self.by_fingerprint = {}
        self.texts = {}
        for path in sorted(folder.glob("*.avsc")):
            text = path.read_text()
            schema = json.loads(text)
            # Little-endian in the header, and so in the hexadecimal text.
            mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
            parsed = fastavro.parse_schema(schema)
            self.by_fingerprint[mark] = parsed
            self.texts[parsed["name"]] = (mark, text, parsed)

    def read(self, value):
        if value[0] == 0:
            (number,) = struct.unpack(">I", value[1:5])
            if number not in self.by_id:
                text = self.registry.get_schema(number).schema_str
                self.by_id[number] = fastavro.parse_schema(json.loads(text))
            return "ids", fastavro.schemaless_reader(io.BytesIO(value[5:]), self.by_id[number])
        if value[:2] != b"\xc3\x01":
            raise ValueError(f"neither format: {value[:10].hex()}")
        return "single-object", fastavro.schemaless_reader(io.BytesIO(value[10:]), self.by_fingerprint[value[2:10]])

    def write(self, name, fields, answer, topic):
        mark, text, parsed = self.texts[name]
        body = io.BytesIO()
        if answer == "ids":
            number = self.registry.register_schema(f"{topic}-{name}", Schema(text, "AVRO"))
            body.write(b"\0" + struct.pack(">I", number))
        else:
            body.write(b"\xc3\x01" + mark)
        fastavro.schemaless_writer(body, parsed, fields)
        return body.getvalue()


def main():
    given = arguments()
    schemas = Schemas(given.schemas, SchemaRegistryClient({"url": given.registry}))
    producer = Producer({"bootstrap.servers": given.kafka, "acks": "all"})
    consumer = Consumer({
        "bootstrap.servers": given.kafka,
        "group.id": "payment-participant",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
    })
    consumer.subscribe(["payment.commands"])
    print("reading", flush=True)
    while True:
        record = consumer.poll(1.0)
        if record is None:
            continue
        if record.error():
            print(f"waits: {record.error()}", flush=True)
            continue
        headers = {name: value.decode() for name, value in record.headers()}
        written, command = schemas.read(record.value())
        if headers["message-type"] != "payment.ChargePayment":
            raise ValueError(f"not asked for in this test: {headers['message-type']}")
        booking = str(command["bookingId"])
        fields = {
            "paymentId": uuid.uuid5(uuid.UUID(headers["command-id"]), "payment"),
            "bookingId": uuid.UUID(booking),
            "reference": command["reference"],
        }
        topic = headers["reply-topic"]
        reply = {name: headers[name] for name in ("saga-id", "command-id", "attempt", "redrive", "traceparent") if name in headers}
        reply |= {"outcome": "succeeded", "message-type": INBOX_RECORD}
        producer.produce(
            topic,
            schemas.write(INBOX_RECORD, fields, given.answer, topic),
            key=headers["saga-id"],
            partition=int(headers["reply-partition"]),
            headers=[(name, value.encode()) for name, value in reply.items()],
        )
        producer.flush()
        consumer.commit(record, asynchronous=False)
        print(f"{booking} {written} {command['amountMinor']} {command['currency']} answered {given.answer}", flush=True)


if __name__ == "__main__":
    main()
