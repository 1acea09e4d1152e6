"""From the start of a broker's process to its first acknowledged record, with a client that waits for nothing.

An ordinary client backs off between its attempts and would be measured too. This one speaks just enough of the protocol: Metadata v4
(which creates the topic) and Produce v3 with a batch of one record, acks = all.
"""

import socket
import struct
import time


LIMIT_SECONDS = 60
TOPIC = b"first"


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit: the batch has 69 bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def batch() -> bytes:
    """A record batch (v2) of one record without key, value `1`."""
    now_ms = int(time.time() * 1000)
    record = bytes([0, 0, 0, 1, 2]) + b"1" + bytes([0])  # attributes, deltas, no key (-1), value of 1 byte, no headers
    record = bytes([len(record) * 2]) + record
    tail = struct.pack(">hiqqqhii", 0, 0, now_ms, now_ms, -1, -1, -1, 1) + record
    body = struct.pack(">ibI", -1, 2, crc32c(tail)) + tail
    return struct.pack(">qi", 0, len(body)) + body


def call(connection, key, version, body) -> bytes:
    """One request and its answer, without the correlation id."""
    head = struct.pack(">hhih", key, version, 1, 5) + b"first"
    connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    size = struct.unpack(">i", exactly(connection, 4))[0]
    return exactly(connection, size)[4:]


def exactly(connection, size) -> bytes:
    """Reads so many bytes."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise OSError("the connection was closed")
        data += part
    return data


def try_once(host, port) -> bool:
    """Whether a record was acknowledged."""
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = struct.pack(">h", len(TOPIC)) + TOPIC
        call(connection, 3, 4, struct.pack(">i", 1) + name + b"\1")
        records = batch()
        request = struct.pack(">hhii", -1, -1, 5000, 1) + name + struct.pack(">iii", 1, 0, len(records)) + records
        answer = call(connection, 0, 3, request)
        # topics, name, partitions, index, then the error code
        code = struct.unpack(">h", answer[4 + len(name) + 4 + 4:][:2])[0]
        return code == 0


def first_acknowledgement(broker) -> float:
    """Starts the broker (whose folder is made already) and returns the seconds until a record was acknowledged."""
    host, port = broker.bootstrap.split(":")
    began = time.perf_counter()
    broker.spawn()
    while time.perf_counter() - began < LIMIT_SECONDS:
        try:
            if try_once(host, int(port)):
                seconds = time.perf_counter() - began
                broker.wait_until_ready()
                return seconds
        except OSError:
            pass
        time.sleep(0.001)
    raise TimeoutError(f"no record was acknowledged within {LIMIT_SECONDS} s:\n{broker.log_tail()}")
