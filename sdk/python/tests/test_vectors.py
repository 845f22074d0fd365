"""The test vectors of the protocol, as far as they are what a program reads."""

import json
import pathlib
import unittest

from sandboxd import wire

VECTORS = pathlib.Path(__file__).resolve().parents[3] / "ipc" / "testdata" / "vectors"


def lines(name):
    with open(VECTORS / name, encoding="utf-8") as f:
        return [v for v in map(json.loads, f) if v["from"] != "program"]


class Vectors(unittest.TestCase):
    def test_every_message_is_read(self):
        messages = lines("messages.jsonl")
        self.assertGreater(len(messages), 10)
        for v in messages:
            with self.subTest(v["name"]):
                kind, fields = wire.parse(bytes.fromhex(v["body"]))
                self.assertIsInstance(kind, int)
                if "cid" in v["fields"]:
                    self.assertEqual(fields[0], v["fields"]["cid"])

    def test_what_is_no_message_is_refused(self):
        refused = lines("refused.jsonl")
        self.assertGreater(len(refused), 10)
        for v in refused:
            body = bytes.fromhex(v["body"])
            if not 0 < len(body) <= 1 << 20:  # refused by its length
                continue
            with self.subTest(v["name"]), self.assertRaises(wire.Violation):
                wire.parse(body)
