import unittest

from mezzo import recordio
from mezzo.errors import Protocol


class RecordIO(unittest.TestCase):
    def test_records_survive_any_cut(self):
        records = [b"", b"a", b"12\n", b"x" * 300]
        stream = b"".join(recordio.encode(record) for record in records)
        for size in (1, 2, 3, 7, len(stream)):
            decoder = recordio.Decoder()
            pieces = (stream[at : at + size] for at in range(0, len(stream), size))
            got = [record for piece in pieces for record in decoder.push(piece)]
            self.assertEqual(got, records, size)

    def test_garbage_is_told_at_once(self):
        for stream in (b"x", b"-1\n", b"\n", b"1" * 21, b" 1\na", b"1 \na"):
            with self.assertRaises(Protocol, msg=stream):
                list(recordio.Decoder().push(stream))

    def test_a_record_that_is_too_long_is_not_waited_for(self):
        with self.assertRaisesRegex(Protocol, "record of 11 bytes is longer than the limit of 10"):
            list(recordio.Decoder(limit=10).push(b"11\n"))


if __name__ == "__main__":
    unittest.main()
