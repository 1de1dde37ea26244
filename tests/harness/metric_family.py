"""The protobuf format, read by Google's library, which gets only the numbers and types of the fields.

Source: `metrics.proto` of Prometheus' client_model.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

_PACKAGE = "io.prometheus.client"

# For each message: name of a field, its number, its type; `*` repeats, a capital is another message, `&` the enum.
_MESSAGES = {
    "LabelPair": "name 1 string, value 2 string",
    "Exemplar": "label 1 *LabelPair, value 2 double, timestamp 3 Timestamp",
    "Gauge": "value 1 double",
    "Counter": "value 1 double, exemplar 2 Exemplar, start 3 Timestamp",
    "Quantile": "quantile 1 double, value 2 double",
    "Summary": "count 1 uint64, sum 2 double, quantile 3 *Quantile, start 4 Timestamp",
    "Untyped": "value 1 double",
    "Bucket": "count 1 uint64, upper_bound 2 double, exemplar 3 Exemplar, float_count 4 double",
    "BucketSpan": "offset 1 sint32, length 2 uint32",
    "Histogram": "count 1 uint64, sum 2 double, bucket 3 *Bucket, float_count 4 double, schema 5 sint32, "
    "zero_threshold 6 double, zero_count 7 uint64, float_zero_count 8 double, "
    "negative_span 9 *BucketSpan, negative_delta 10 *sint64, negative_count 11 *double, "
    "positive_span 12 *BucketSpan, positive_delta 13 *sint64, positive_count 14 *double, "
    "start 15 Timestamp, exemplar 16 *Exemplar",
    "Metric": "label 1 *LabelPair, gauge 2 Gauge, counter 3 Counter, summary 4 Summary, untyped 5 Untyped, "
    "timestamp_ms 6 int64, histogram 7 Histogram",
    "MetricFamily": "name 1 string, help 2 string, type 3 &, metric 4 *Metric, unit 5 string",
}
_TYPES = ["COUNTER", "GAUGE", "SUMMARY", "UNTYPED", "HISTOGRAM", "GAUGE_HISTOGRAM"]


def _message_type() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=_PACKAGE, syntax="proto2")
    file.dependency.append("google/protobuf/timestamp.proto")
    enum = file.enum_type.add(name="MetricType")
    for number, name in enumerate(_TYPES):
        enum.value.add(name=name, number=number)
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, tag, kind in (text.split() for text in fields.split(", ")):
            label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
            added = described.field.add(name=name, number=int(tag), label=label)
            kind = kind.lstrip("*")
            if kind == "&":
                added.type, added.type_name = field.TYPE_ENUM, f".{_PACKAGE}.MetricType"
            elif kind == "Timestamp":
                added.type, added.type_name = field.TYPE_MESSAGE, ".google.protobuf.Timestamp"
            elif kind[0].isupper():
                added.type, added.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.MetricFamily"))


MetricFamily = _message_type()


def messages(body: bytes) -> Iterator[Any]:
    """Yields every message of a page; an unknown field is an AssertionError."""
    at = 0
    while at < len(body):
        length, shift = 0, 0
        while True:
            byte = body[at]
            at, length, shift = at + 1, length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        assert at + length <= len(body), "the last message is cut off"
        message = MetricFamily.FromString(body[at : at + length])
        known = message.SerializeToString()
        message.DiscardUnknownFields()
        assert message.SerializeToString() == known, f"unknown fields in {message}"
        at += length
        yield message


def type_of(message: Any) -> str:
    """Returns the name of its type."""
    number: int = message.type
    return _TYPES[number]


def labels_of(message: Any) -> dict[str, str]:
    """Returns the labels of a metric, or of an exemplar."""
    return {pair.name: pair.value for pair in message.label}
