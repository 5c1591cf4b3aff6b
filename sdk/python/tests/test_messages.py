import unittest

from mezzo import TERMINAL_STATES, is_terminal, scalar, state_name, v1


class Messages(unittest.TestCase):
    def test_each_endpoint_has_its_calls_in_a_module(self):
        for name in ("agent", "executor", "master", "resource_provider", "scheduler"):
            call = getattr(v1, name).Call
            self.assertEqual(call.DESCRIPTOR.full_name, f"mezzo.v1.{name}.Call")

    def test_states_are_numbers_with_names(self):
        self.assertEqual(state_name(v1.TASK_GONE_BY_OPERATOR), "TASK_GONE_BY_OPERATOR")
        going_on = {"STAGING", "STARTING", "RUNNING", "KILLING", "UNREACHABLE", "UNKNOWN"}
        over = {state for name, state in v1.TaskState.items() if name[5:] not in going_on}
        self.assertEqual(over, TERMINAL_STATES)
        self.assertFalse(is_terminal(v1.TASK_UNREACHABLE))

    def test_a_scalar_is_whole(self):
        resource = scalar("cpus", 0.5)
        self.assertTrue(resource.IsInitialized())
        self.assertEqual(resource.scalar.value, 0.5)


if __name__ == "__main__":
    unittest.main()
