"""Servers that take access logs from Envoy, and write down what they get as JSON lines, as collectors do."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message_factory, wrappers_pb2
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from stack import LOOPBACK

# --- Envoy's messages -------------------------------------------------------------------------------------------------

Field = descriptor_pb2.FieldDescriptorProto
WRAPPERS = (
    wrappers_pb2.StringValue,
    wrappers_pb2.BytesValue,
)  # known to the pool, so that an Any can be written as JSON


def message_of(name: str, package: str, fields: dict[str, tuple[int, str, bool]]) -> descriptor_pb2.FileDescriptorProto:
    """A file with one message. Fields are number, message type (empty for a string) and whether there are many."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.{name}", package=package, syntax="proto3")
    file.dependency.append("google/protobuf/any.proto")
    message = file.message_type.add(name=name)
    for field, (number, type_name, many) in fields.items():
        message.field.add(
            name=field,
            number=number,
            label=Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL,
            type=Field.TYPE_MESSAGE if type_name else Field.TYPE_STRING,
            type_name=type_name or None,
        )
    return file


def access_log_messages() -> type[Message]:
    """`envoy.service.accesslog.v3.StreamAccessLogsMessage`, as far as records are concerned.

    Of Envoy's protocol only the few fields on the way to the record; whatever else comes is skipped. The packages with
    all of it are named `envoy`, like the one that Envoy itself comes in.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    data, service = "envoy.data.accesslog.v3", "envoy.service.accesslog.v3"
    common = message_of(
        "AccessLogCommon",
        data,
        {
            "filter_state_objects": (21, f".{data}.AccessLogCommon.FilterStateObjectsEntry", True),
            "custom_tags": (22, f".{data}.AccessLogCommon.CustomTagsEntry", True),
        },
    )
    for name, value_type in (("FilterStateObjectsEntry", ".google.protobuf.Any"), ("CustomTagsEntry", "")):
        entry = message_of(name, data, {"key": (1, "", False), "value": (2, value_type, False)}).message_type[0]
        entry.options.map_entry = True
        common.message_type[0].nested_type.append(entry)
    http = message_of("HTTPAccessLogEntry", data, {"common_properties": (1, f".{data}.AccessLogCommon", False)})
    http.dependency.append(common.name)
    entries = message_of("Entries", service, {"log_entry": (1, f".{data}.HTTPAccessLogEntry", True)})
    entries.dependency.append(http.name)
    stream = message_of("StreamAccessLogsMessage", service, {"http_logs": (2, f".{service}.Entries", False)})
    stream.dependency.append(entries.name)
    for file in (common, http, entries, stream):
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{service}.StreamAccessLogsMessage"))


STREAM_ACCESS_LOGS: Any = access_log_messages()

# --- Receivers --------------------------------------------------------------------------------------------------------


class Receiver:
    """A gRPC server on a port of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        #: Nothing is read while it is closed.
        self.gate = threading.Event()
        self.gate.set()
        self.port = 0
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None
        self.up()

    def up(self) -> None:
        """Accepts connections, on the port that it always had."""
        # A small window: what is not read piles up at Envoy.
        options = [("grpc.so_reuseport", 0), ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384)]
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self.port = self._server.add_insecure_port(f"{LOOPBACK}:{self.port}")
        self._server.start()

    def down(self) -> None:
        """Refuses connections, and ends those that there are."""
        self.gate.set()
        if self._server:
            self._server.stop(None).wait()
            self._server = None

    def _handlers(self) -> grpc.GenericRpcHandler:
        raise NotImplementedError

    def _write(self, message: Message) -> None:
        text = json_format.MessageToJson(message, indent=None, ensure_ascii=False)
        with self._lock, self.path.open("a") as file:
            file.write(text + "\n")


class AccessLogService(Receiver):
    """`envoy.service.accesslog.v3.AccessLogService`: a line per entry."""

    def _handlers(self) -> grpc.GenericRpcHandler:
        method = grpc.stream_unary_rpc_method_handler(
            self._stream, request_deserializer=STREAM_ACCESS_LOGS.FromString, response_serializer=lambda _: b""
        )
        return grpc.method_handlers_generic_handler(
            "envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": method}
        )

    def _stream(self, messages: Iterator[Any], _: grpc.ServicerContext) -> bytes:
        while True:
            self.gate.wait(60)
            message = next(messages, None)
            if message is None:
                return b""
            for entry in message.http_logs.log_entry:
                self._write(entry)


class Collector(Receiver):
    """OTLP/gRPC for logs: a line per export."""

    def _handlers(self) -> grpc.GenericRpcHandler:
        method = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=logs_service_pb2.ExportLogsServiceRequest.FromString,
            response_serializer=logs_service_pb2.ExportLogsServiceResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            "opentelemetry.proto.collector.logs.v1.LogsService", {"Export": method}
        )

    def _export(self, request: Any, _: grpc.ServicerContext) -> Any:
        self.gate.wait(60)
        self._write(request)
        return logs_service_pb2.ExportLogsServiceResponse()
