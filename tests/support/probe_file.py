"""Write the file of a probe (Probe of runtime/proto/shoal.proto) with figures of one's choice, without protobuf."""
import struct

FORMATS = ["f32", "f16", "bf16", "fp8-block", "mxfp4", "q8", "q4"]


def _varint(n):
    out = bytearray()
    while True:
        out.append(n & 0x7F | (0x80 if n > 0x7F else 0))
        n >>= 7
        if n == 0:
            return bytes(out)


def _field(number, value):
    """bytes and str: length-delimited; float: double; int: varint."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    return _varint(number << 3) + _varint(value)


def _floats(number, values):
    return _field(number, struct.pack(f"<{len(values)}f", *values))


def _whole(number, values):
    return _field(number, b"".join(_varint(v) for v in values))


def write_probe(path, hosts, speeds, memory_bytes=10**10, latency_us=5.0, gb_per_s=5.0):
    """A rank for each of `hosts` (names; equal ones are one host) that streams speeds[rank] GB/s and multiplies ten times that."""
    names = list(dict.fromkeys(hosts))
    n = len(hosts)
    memory = memory_bytes if isinstance(memory_bytes, list) else [memory_bytes] * n
    out = _field(1, 1) + _field(2, "0.1.0 (test)") + _field(3, 1800000000)
    for name in names:
        out += _field(4, _field(1, name) + _field(3, 8) + _field(4, 1) + _field(5, sum(memory)) + _field(6, sum(memory)) + _field(7, 1.0))
    for host, speed, room in zip(hosts, speeds, memory):
        rank = _field(1, names.index(host)) + _field(2, 1) + _field(3, 1) + _field(4, 1) + _field(5, room)  # gpu: zigzag of -1
        rank += _field(6, float(speed)) + _field(7, 10.0 * speed) + _field(8, 1.0)
        for name in FORMATS:
            rank += _field(9, _field(1, name) + _field(2, float(speed)) + _field(3, 10.0 * speed))
        out += _field(5, rank)
    own = [a == b for a in range(n) for b in range(n)]
    out += _floats(6, [0.0 if same else latency_us for same in own]) + _floats(7, [0.0 if same else gb_per_s for same in own])
    out += _floats(8, [0.0 if same else 1.0 for same in own]) + _whole(9, [0 if same else 1 for same in own])
    out += _whole(10, [0] * n * n) + _whole(11, [0] * n * n) + _floats(13, [0.0] * n * n)
    with open(path, "wb") as file:
        file.write(out)
    return path
