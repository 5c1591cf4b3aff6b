import tempfile
import unittest
from pathlib import Path

from mezzo import AddressError, Environment, EnvironmentVariableError, addresses, durations

USUAL = {
    "MESOS_AGENT_ENDPOINT": "10.0.0.1:5051",
    "MESOS_FRAMEWORK_ID": "f",
    "MESOS_EXECUTOR_ID": "e",
}


class Addresses(unittest.TestCase):
    def test_lists(self):
        found = addresses.Detector(" a:1, http://b/ ,[::1]:3").candidates()
        self.assertEqual(found, [("a", 1), ("b", 5050), ("::1", 3)])
        self.assertEqual(addresses.show(("::1", 3)), "[::1]:3")

    def test_files_are_read_each_time(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "master")
            path.write_text("a:1\n")
            detector = addresses.Detector(f"file://{path}")
            self.assertEqual(detector.candidates(), [("a", 1)])
            path.write_text("b:2,c")
            self.assertEqual(detector.candidates(), [("b", 2), ("c", 5050)])
            path.unlink()
            with self.assertRaisesRegex(AddressError, "cannot be read"):
                detector.candidates()

    def test_what_is_wrong_is_said(self):
        for text in ("", "a:0", "a:70000", "a:b", "::1", "zk://a/m", "https://a", "a/b", "file://x"):
            with self.assertRaises(AddressError, msg=text):
                addresses.Detector(text)

    def test_locations(self):
        self.assertEqual(addresses.of_location("//m:5050/api/v1/scheduler"), ("m", 5050))
        self.assertEqual(addresses.of_location("http://m:1"), ("m", 1))
        self.assertIsNone(addresses.of_location("/relative"))


class Durations(unittest.TestCase):
    def test_units(self):
        self.assertEqual(durations.parse("1.5mins"), 90.0)
        self.assertEqual(durations.parse("250ms"), 0.25)
        self.assertEqual(durations.parse(".5secs"), 0.5)
        for text in ("", "5", "5s", "-1secs", "1.2.3secs"):
            with self.assertRaises(ValueError, msg=text):
                durations.parse(text)


class Environments(unittest.TestCase):
    def test_what_agents_set_is_read(self):
        usual = Environment.read(USUAL)
        self.assertEqual((usual.agent, usual.checkpoint), ("10.0.0.1:5051", False))
        more = {"MESOS_CHECKPOINT": "1", "MESOS_RECOVERY_TIMEOUT": "15mins"}
        environment = Environment.read({**USUAL, **more})
        self.assertTrue(environment.checkpoint)
        self.assertEqual(environment.recovery_timeout, 900.0)

    def test_what_is_missing_or_wrong_is_named(self):
        for changed, expected in (
            ({"MESOS_EXECUTOR_ID": ""}, "MESOS_EXECUTOR_ID is not set"),
            ({"MESOS_CHECKPOINT": "yes"}, "MESOS_CHECKPOINT is 'yes'"),
            ({"MESOS_RECOVERY_TIMEOUT": "5"}, "MESOS_RECOVERY_TIMEOUT: '5' is no duration"),
        ):
            with self.assertRaisesRegex(EnvironmentVariableError, expected):
                Environment.read({**USUAL, **changed})


if __name__ == "__main__":
    unittest.main()
