import queue
import unittest

from fake_server import WAIT_S, FakeServer

from mezzo import (
    CallRefused,
    Disconnected,
    Ended,
    Scheduler,
    SchedulerDriver,
    SubscriptionRefused,
    v1,
)

Call = v1.scheduler.Call
Event = v1.scheduler.Event


class Recorder(Scheduler):
    """Puts everything it is told into a queue."""

    def __init__(self):
        self.told = queue.Queue()

    def next(self):
        return self.told.get(timeout=WAIT_S)

    def subscribed(self, driver, framework_id, master):
        self.told.put(("subscribed", framework_id))

    def offers(self, driver, offers):
        self.told.put(("offers", [offer.id.value for offer in offers]))

    def update(self, driver, status):
        self.told.put(("update", status.task_id.value))

    def reconciled(self, driver):
        self.told.put(("reconciled",))

    def disconnected(self, driver, reason):
        self.told.put(("disconnected", reason))

    def failure(self, driver, agent_id, executor_id, status):
        self.told.put(("failure", agent_id.value, executor_id, status))


def subscribed(heartbeat=15.0):
    event = Event(type=Event.SUBSCRIBED)
    event.subscribed.framework_id.value = "framework-1"
    event.subscribed.heartbeat_interval_seconds = heartbeat
    return event


def update(task, uuid=None):
    event = Event(type=Event.UPDATE)
    status = event.update.status
    status.task_id.value = task
    status.agent_id.value = "agent-1"
    status.state = v1.TASK_RUNNING
    if uuid is not None:
        status.uuid = bytes([uuid] * 16)
    return event


class Subscription(unittest.TestCase):
    def setUp(self):
        self.master = FakeServer(Call)
        self.addCleanup(self.master.close)
        self.scheduler = Recorder()

    def driver(self, master=None, **settings):
        framework = v1.FrameworkInfo(name="test", user="nobody")
        driver = SchedulerDriver(
            self.scheduler, framework, master or self.master.address, **settings
        )
        self.addCleanup(driver.stop, teardown=False)
        driver.start()
        return driver

    def accept(self):
        session = self.master.accept()
        session.send(subscribed())
        self.assertEqual(self.scheduler.next(), ("subscribed", "framework-1"))
        return session

    def test_updates_are_acknowledged_when_they_have_been_handled(self):
        self.driver()
        session = self.accept()
        # From the master itself: must not be acknowledged.
        session.send(update("a"))
        session.send(update("a", uuid=1))
        self.assertEqual(self.scheduler.next(), ("update", "a"))
        self.assertEqual(self.scheduler.next(), ("update", "a"))
        call = session.call()
        self.assertEqual(call.type, Call.ACKNOWLEDGE)
        self.assertEqual(call.framework_id.value, "framework-1")
        self.assertEqual(call.acknowledge.uuid, bytes([1] * 16))
        self.assertEqual(call.acknowledge.agent_id.value, "agent-1")

    def test_acknowledgement_can_be_left_to_the_application(self):
        driver = self.driver(acknowledge=False)
        session = self.accept()
        session.send(update("a", uuid=1))
        self.scheduler.next()
        driver.suppress()
        self.assertEqual(session.call().type, Call.SUPPRESS)

    def test_a_refused_call_is_an_error_and_the_subscription_goes_on(self):
        driver = self.driver()
        session = self.accept()
        session.answers.put((400, b"task_id is empty"))
        with self.assertRaisesRegex(CallRefused, "refused KILL with 400: task_id is empty"):
            driver.kill(v1.TaskID(value=""))
        session.send(update("a"))
        self.assertEqual(self.scheduler.next(), ("update", "a"))

    def test_a_call_on_a_subscription_that_the_master_has_ended_renews_it(self):
        driver = self.driver()
        session = self.accept()
        session.answers.put((403, b"Framework is not subscribed: too slow"))
        with self.assertRaisesRegex(Disconnected, "is not subscribed: too slow"):
            driver.revive()
        self.assertEqual(self.scheduler.next()[0], "disconnected")
        self.accept()
        driver.revive()

    def test_a_lost_connection_is_renewed_with_what_was_suppressed(self):
        driver = self.driver()
        session = self.accept()
        driver.suppress()
        session.close()
        self.assertEqual(self.scheduler.next()[0], "disconnected")
        session = self.master.accept()
        with self.assertRaises(Disconnected):
            SchedulerDriver(self.scheduler, v1.FrameworkInfo(), "a").revive()
        session.send(subscribed())
        self.assertEqual(self.scheduler.next(), ("subscribed", "framework-1"))
        self.assertEqual(session.framework_id, "framework-1")
        self.assertEqual(session.subscribe.framework_info.id.value, "framework-1")
        self.assertEqual(list(session.subscribe.suppressed_roles), ["*"])
        driver.revive()
        self.assertEqual(session.call().type, Call.REVIVE)

    def test_a_stream_without_heartbeats_is_renewed(self):
        self.driver()
        self.master.accept().send(subscribed(heartbeat=0.02))
        self.assertEqual(self.scheduler.next(), ("subscribed", "framework-1"))
        self.assertEqual(
            self.scheduler.next(), ("disconnected", "the heartbeats of the master stopped")
        )
        self.accept()

    def test_a_master_that_names_the_leader_is_followed(self):
        standby = FakeServer(Call)
        self.addCleanup(standby.close)
        standby.refuse = (307, f"//{self.master.address}")
        # Nobody is at the first address.
        self.driver(f"127.0.0.1:1,{standby.address}")
        self.accept()

    def test_a_master_that_is_not_ready_is_asked_again(self):
        self.master.refuse = (503, None)
        self.driver()
        self.master.refuse = None
        self.accept()

    def test_a_refused_subscription_ends_the_driver(self):
        self.master.refuse = (403, None)
        driver = self.driver()
        with self.assertRaisesRegex(SubscriptionRefused, "with 403: not now"):
            driver.join(WAIT_S)

    def test_an_error_ends_the_driver(self):
        driver = self.driver()
        session = self.accept()
        error = Event(type=Event.ERROR)
        error.error.message = "framework failed over"
        session.send(error)
        with self.assertRaisesRegex(Ended, "framework failed over"):
            driver.join(WAIT_S)

    def test_what_the_application_raises_ends_the_driver(self):
        driver = self.driver()
        session = self.accept()
        self.scheduler.offers = None
        session.send(Event(type=Event.OFFERS))
        with self.assertRaises(TypeError):
            driver.join(WAIT_S)

    def test_reconciliation_goes_on_over_a_reconnection(self):
        driver = self.driver()
        session = self.accept()
        driver.reconcile([("a", None), ("b", "agent-1")])
        asked = session.call()
        self.assertEqual(asked.type, Call.RECONCILE)
        self.assertEqual([task.task_id.value for task in asked.reconcile.tasks], ["a", "b"])
        self.assertEqual(asked.reconcile.tasks[1].agent_id.value, "agent-1")
        session.send(update("b"))
        self.assertEqual(self.scheduler.next(), ("update", "b"))
        session.close()
        self.assertEqual(self.scheduler.next()[0], "disconnected")
        session = self.accept()
        asked = session.call()
        self.assertEqual([task.task_id.value for task in asked.reconcile.tasks], ["a"])
        session.send(update("a"))
        self.assertEqual(self.scheduler.next(), ("update", "a"))
        self.assertEqual(self.scheduler.next(), ("reconciled",))

    def test_everything_is_reconciled_again_and_again_on_request(self):
        self.driver(implicit_reconciliation=0.01)
        session = self.accept()
        for _ in range(3):
            call = session.call()
            self.assertTrue(call.HasField("reconcile"))
            self.assertEqual(len(call.reconcile.tasks), 0)

    def test_stop_tears_the_framework_down(self):
        driver = self.driver()
        session = self.accept()
        driver.stop()
        self.assertEqual(session.call().type, Call.TEARDOWN)
        self.assertTrue(driver.join(WAIT_S))
        driver.stop = lambda teardown: None  # For the clean-up.

    def test_absent_parts_of_a_failure_are_none(self):
        self.driver()
        session = self.accept()
        failure = Event(type=Event.FAILURE)
        failure.failure.agent_id.value = "agent-1"
        session.send(failure)
        self.assertEqual(self.scheduler.next(), ("failure", "agent-1", None, None))


if __name__ == "__main__":
    unittest.main()
