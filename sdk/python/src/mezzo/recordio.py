"""RecordIO, the framing of event streams: the length of a record in decimal, a newline, the record."""

from typing import Iterator

from mezzo.errors import Protocol

#: No event is larger than this, in bytes.
MAX_RECORD_BYTES = 256 << 20

#: Digits of the largest 64-bit number.
_MAX_DIGITS = 20


def encode(record: bytes) -> bytes:
    """The record with its length before it."""
    return b"%d\n%s" % (len(record), record)


class Decoder:
    """Takes a stream apart into records, whatever the pieces in which it arrives."""

    def __init__(self, limit: int = MAX_RECORD_BYTES):
        self._limit = limit
        self._buffer = bytearray()

    def push(self, data: bytes) -> Iterator[bytes]:
        """The records that are complete once `data` has been added."""
        self._buffer += data
        while True:
            end = self._buffer.find(b"\n", 0, _MAX_DIGITS + 1)
            head = self._buffer[: _MAX_DIGITS + 1] if end < 0 else self._buffer[:end]
            # Garbage is told at its first byte, not when a newline happens to come.
            if (head and not head.isdigit()) or len(head) > _MAX_DIGITS or end == 0:
                raise Protocol(
                    "expected the decimal length of a record and a newline, got "
                    + repr(bytes(head or self._buffer[:1]))
                )
            if end < 0:
                return
            length = int(head)
            if length > self._limit:
                raise Protocol(f"record of {length} bytes is longer than the limit of {self._limit}")
            if len(self._buffer) < end + 1 + length:
                return
            record = bytes(self._buffer[end + 1 : end + 1 + length])
            del self._buffer[: end + 1 + length]
            yield record
