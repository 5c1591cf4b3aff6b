"""Schedulers: the part of a framework that decides what runs where."""

import logging
import threading
from typing import Iterable, List, Optional, Sequence, Tuple

from mezzo import v1
from mezzo.addresses import MASTER_PORT, Detector
from mezzo.backoff import Backoff
from mezzo.connection import Connection, open_any
from mezzo.driver import Driver
from mezzo.errors import Disconnected, Ended, MezzoError
from mezzo.reconciliation import Reconciliation

_log = logging.getLogger("mezzo")

_PATH = "/api/v1/scheduler"
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 10.0
_HEARTBEAT_S = 15.0

Call = v1.scheduler.Call
Event = v1.scheduler.Event


class Scheduler:
    """Override what concerns you. All methods are called one after the other, in the driver's
    thread; what they raise ends the driver."""

    def subscribed(
        self, driver: "SchedulerDriver", framework_id: str, master: Optional[v1.MasterInfo]
    ) -> None:
        """The subscription stands, for the first time or again. Offers made before are void."""

    def offers(self, driver: "SchedulerDriver", offers: Sequence[v1.Offer]) -> None:
        """Resources, to be used or declined. By default they are declined."""
        driver.decline([offer.id for offer in offers])

    def inverse_offers(self, driver: "SchedulerDriver", offers: Sequence[v1.InverseOffer]) -> None:
        """Requests to give resources back before a maintenance."""

    def rescinded(self, driver: "SchedulerDriver", offer_id: v1.OfferID) -> None:
        """The offer is void."""

    def inverse_rescinded(self, driver: "SchedulerDriver", offer_id: v1.OfferID) -> None:
        """The request to give resources back is void."""

    def update(self, driver: "SchedulerDriver", status: v1.TaskStatus) -> None:
        """News of a task. Acknowledged when this returns, unless the driver was told not to."""

    def operation_update(self, driver: "SchedulerDriver", status: v1.OperationStatus) -> None:
        """News of an operation on resources. Acknowledged as updates are."""

    def message(
        self,
        driver: "SchedulerDriver",
        agent_id: v1.AgentID,
        executor_id: v1.ExecutorID,
        data: bytes,
    ) -> None:
        """Data from an executor."""

    def failure(
        self,
        driver: "SchedulerDriver",
        agent_id: Optional[v1.AgentID],
        executor_id: Optional[v1.ExecutorID],
        status: Optional[int],
    ) -> None:
        """An agent was removed or, with an executor id, an executor ended."""

    def reconciled(self, driver: "SchedulerDriver") -> None:
        """Every task named to `SchedulerDriver.reconcile` has been heard of since."""

    def disconnected(self, driver: "SchedulerDriver", reason: str) -> None:
        """The connection is lost and will be made anew."""


class SchedulerDriver(Driver):
    """Subscribes a framework and calls its scheduler.

    `master` is `host:port`; or several with commas in between, which are tried in turn; or
    `file:///path` of a file that holds one of these. A master that is not the leader and says who
    is, is followed. Lost connections are made anew, with the framework's id.

    Methods that call the master may be used from any thread. They return when the master has taken
    the call, and raise `CallRefused` or `Disconnected`. Times are in seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        framework: v1.FrameworkInfo,
        master: str,
        *,
        acknowledge: bool = True,
        suppressed_roles: Iterable[str] = (),
        offer_constraints: Optional[v1.scheduler.OfferConstraints] = None,
        implicit_reconciliation: Optional[float] = None,
    ):
        super().__init__("mezzo-scheduler")
        self._scheduler = scheduler
        self._detector = Detector(master, MASTER_PORT)
        self._acknowledge = acknowledge
        self._framework = v1.FrameworkInfo()
        self._framework.CopyFrom(framework)
        self._suppressed = set(suppressed_roles)
        self._constraints = offer_constraints
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._lock = threading.Lock()
        self._connection: Optional[Connection[Event]] = None
        self._reconciliation = Reconciliation(self._ask, implicit_reconciliation)

    @property
    def framework_id(self) -> Optional[str]:
        """The id that the master knows the framework by, once it has subscribed."""
        return self._framework.id.value or None

    def stop(self, teardown: bool = True) -> None:
        """Ends the framework with all its tasks or, without `teardown`, this scheduler alone:
        another one may then take the framework over within its failover timeout. The driver ends in
        any case; what TEARDOWN raises is raised."""
        try:
            if teardown:
                self._send(Call(type=Call.TEARDOWN))
        finally:
            self._stopping.set()
            with self._lock:
                connection = self._connection
            if connection is not None:
                connection.close()

    # Calls.

    def launch(self, offer: v1.Offer, tasks: Sequence[v1.TaskInfo]) -> None:
        """Launches tasks on an offer; what they leave of it may be offered again at once. Without
        tasks, declines the offer."""
        if not tasks:
            self.decline([offer.id])
            return
        operation = v1.Offer.Operation(type=v1.Offer.Operation.LAUNCH)
        operation.launch.task_infos.extend(tasks)
        self.accept([offer.id], [operation], refuse_seconds=0.0)

    def accept(
        self,
        offer_ids: Iterable[v1.OfferID],
        operations: Iterable[v1.Offer.Operation],
        refuse_seconds: Optional[float] = None,
    ) -> None:
        """Uses offers, all of one agent. The rest is not offered again for `refuse_seconds` (the
        master's default is 5)."""
        call = Call(type=Call.ACCEPT)
        call.accept.offer_ids.extend(offer_ids)
        call.accept.operations.extend(operations)
        _filter(call.accept, refuse_seconds)
        self._send(call)

    def decline(
        self, offer_ids: Iterable[v1.OfferID], refuse_seconds: Optional[float] = None
    ) -> None:
        """Gives offers back, not to be made again for `refuse_seconds` (by default 5)."""
        call = Call(type=Call.DECLINE)
        call.decline.offer_ids.extend(offer_ids)
        _filter(call.decline, refuse_seconds)
        self._send(call)

    def accept_inverse_offers(
        self, offer_ids: Iterable[v1.OfferID], refuse_seconds: Optional[float] = None
    ) -> None:
        """Agrees to give resources back for a maintenance."""
        call = Call(type=Call.ACCEPT_INVERSE_OFFERS)
        call.accept_inverse_offers.inverse_offer_ids.extend(offer_ids)
        _filter(call.accept_inverse_offers, refuse_seconds)
        self._send(call)

    def decline_inverse_offers(
        self, offer_ids: Iterable[v1.OfferID], refuse_seconds: Optional[float] = None
    ) -> None:
        """Says that the resources will not be given back."""
        call = Call(type=Call.DECLINE_INVERSE_OFFERS)
        call.decline_inverse_offers.inverse_offer_ids.extend(offer_ids)
        _filter(call.decline_inverse_offers, refuse_seconds)
        self._send(call)

    def revive(self, roles: Iterable[str] = ()) -> None:
        """Asks for offers again, for these roles or, without any, for all."""
        call = Call(type=Call.REVIVE)
        call.revive.roles.extend(roles)
        self._send(call)
        self._suppressed.difference_update(call.revive.roles or list(self._suppressed))

    def suppress(self, roles: Iterable[str] = ()) -> None:
        """Asks for no more offers, for these roles or, without any, for all."""
        call = Call(type=Call.SUPPRESS)
        call.suppress.roles.extend(roles)
        self._send(call)
        self._suppressed.update(call.suppress.roles or self._roles())

    def kill(
        self,
        task_id: v1.TaskID,
        agent_id: Optional[v1.AgentID] = None,
        grace: Optional[float] = None,
    ) -> None:
        """Asks for the end of a task. Not reliable: repeat it until a terminal update comes."""
        call = Call(type=Call.KILL)
        call.kill.task_id.CopyFrom(task_id)
        if agent_id is not None:
            call.kill.agent_id.CopyFrom(agent_id)
        if grace is not None:
            call.kill.kill_policy.grace_period.nanoseconds = int(grace * 1e9)
        self._send(call)

    def shutdown_executor(self, agent_id: v1.AgentID, executor_id: v1.ExecutorID) -> None:
        """Ends an executor with all its tasks."""
        call = Call(type=Call.SHUTDOWN)
        call.shutdown.agent_id.CopyFrom(agent_id)
        call.shutdown.executor_id.CopyFrom(executor_id)
        self._send(call)

    def acknowledge(self, status: v1.TaskStatus) -> None:
        """Tells that an update has been dealt with. One without a uuid needs none."""
        if not status.uuid:
            return
        call = Call(type=Call.ACKNOWLEDGE)
        call.acknowledge.agent_id.CopyFrom(status.agent_id)
        call.acknowledge.task_id.CopyFrom(status.task_id)
        call.acknowledge.uuid = status.uuid
        self._send(call)

    def acknowledge_operation(self, status: v1.OperationStatus) -> None:
        """Tells that news of an operation has been dealt with. One without a uuid needs none."""
        if not status.HasField("uuid") or not status.HasField("operation_id"):
            return
        call = Call(type=Call.ACKNOWLEDGE_OPERATION_STATUS)
        body = call.acknowledge_operation_status
        if status.HasField("agent_id"):
            body.agent_id.CopyFrom(status.agent_id)
        if status.HasField("resource_provider_id"):
            body.resource_provider_id.CopyFrom(status.resource_provider_id)
        body.uuid = status.uuid.value
        body.operation_id.CopyFrom(status.operation_id)
        self._send(call)

    def reconcile(self, tasks: Iterable[Tuple[str, Optional[str]]]) -> None:
        """Asks for the state of tasks, given by their id and their agent's, until an update of each
        has come; then calls `Scheduler.reconciled`. Goes on over reconnections, with pauses that
        grow to a minute. Takes the place of a reconciliation that is under way; without tasks it
        only ends that. To be done after each subscription, with all tasks that are not known to
        have ended."""
        self._reconciliation.begin(tasks)

    def reconcile_all(self) -> None:
        """Asks once for all tasks that the master knows."""
        self._ask([])

    def reconcile_operations(
        self, operations: Iterable[Call.ReconcileOperations.Operation] = ()
    ) -> None:
        """Asks once for the state of operations, of all if none is named."""
        call = Call(type=Call.RECONCILE_OPERATIONS)
        call.reconcile_operations.operations.extend(operations)
        self._send(call)

    def message(
        self, agent_id: v1.AgentID, executor_id: v1.ExecutorID, data: bytes
    ) -> None:
        """Sends data to an executor, at best effort."""
        call = Call(type=Call.MESSAGE)
        call.message.agent_id.CopyFrom(agent_id)
        call.message.executor_id.CopyFrom(executor_id)
        call.message.data = data
        self._send(call)

    def request(self, requests: Iterable[v1.Request]) -> None:
        """Asks for particular resources; masters take note of it and do nothing."""
        call = Call(type=Call.REQUEST)
        call.request.requests.extend(requests)
        self._send(call)

    def update_framework(
        self,
        framework: v1.FrameworkInfo,
        suppressed_roles: Iterable[str] = (),
        offer_constraints: Optional[v1.scheduler.OfferConstraints] = None,
    ) -> None:
        """Replaces the framework's description, its suppressed roles and its constraints."""
        call = Call(type=Call.UPDATE_FRAMEWORK)
        body = call.update_framework
        body.framework_info.CopyFrom(framework)
        body.framework_info.id.CopyFrom(self._framework.id)
        body.suppressed_roles.extend(suppressed_roles)
        if offer_constraints is not None:
            body.offer_constraints.CopyFrom(offer_constraints)
        self._send(call)
        self._framework.CopyFrom(body.framework_info)
        self._suppressed = set(body.suppressed_roles)
        self._constraints = offer_constraints

    # The subscription.

    def _loop(self) -> None:
        self._reconciliation.start()
        while not self._stopping.is_set():
            connection = self._retry(self._subscribe, self._backoff, None)
            if connection is None:
                return
            try:
                for event in connection.events():
                    self._handle(connection, event)
                    if self._stopping.is_set():
                        return
            except Disconnected as error:
                if self._stopping.is_set():
                    return
                _log.info("disconnected: %s", error)
                self._scheduler.disconnected(self, str(error))
            finally:
                with self._lock:
                    self._connection = None
                connection.close()

    def _subscribe(self) -> Connection[Event]:
        call = Call(type=Call.SUBSCRIBE)
        call.subscribe.framework_info.CopyFrom(self._framework)
        call.subscribe.suppressed_roles.extend(sorted(self._suppressed))
        if self._constraints is not None:
            call.subscribe.offer_constraints.CopyFrom(self._constraints)
        if self._framework.HasField("id"):
            call.framework_id.CopyFrom(self._framework.id)
        connection = open_any(
            self._detector, "master", _PATH, Event, call.SerializeToString(), {}
        )
        with self._lock:
            self._connection = connection
        # Stopped meanwhile: nobody else would close it.
        if self._stopping.is_set():
            connection.close()
        return connection

    def _handle(self, connection: Connection[Event], event: Event) -> None:
        scheduler = self._scheduler
        kind = event.type
        if kind == Event.SUBSCRIBED:
            subscribed = event.subscribed
            connection.expect_heartbeats(subscribed.heartbeat_interval_seconds or _HEARTBEAT_S)
            self._framework.id.CopyFrom(subscribed.framework_id)
            self._backoff.reset()
            self._reconciliation.subscribed()
            master = subscribed.master_info if subscribed.HasField("master_info") else None
            scheduler.subscribed(self, subscribed.framework_id.value, master)
        elif kind == Event.OFFERS:
            scheduler.offers(self, list(event.offers.offers))
        elif kind == Event.INVERSE_OFFERS:
            scheduler.inverse_offers(self, list(event.inverse_offers.inverse_offers))
        elif kind == Event.RESCIND:
            scheduler.rescinded(self, event.rescind.offer_id)
        elif kind == Event.RESCIND_INVERSE_OFFER:
            scheduler.inverse_rescinded(self, event.rescind_inverse_offer.inverse_offer_id)
        elif kind == Event.UPDATE:
            status = event.update.status
            last = self._reconciliation.answered(status.task_id.value)
            scheduler.update(self, status)
            if self._acknowledge:
                self._quietly(lambda: self.acknowledge(status))
            if last:
                scheduler.reconciled(self)
        elif kind == Event.UPDATE_OPERATION_STATUS:
            operation = event.update_operation_status.status
            scheduler.operation_update(self, operation)
            if self._acknowledge:
                self._quietly(lambda: self.acknowledge_operation(operation))
        elif kind == Event.MESSAGE:
            message = event.message
            scheduler.message(self, message.agent_id, message.executor_id, message.data)
        elif kind == Event.FAILURE:
            failure = event.failure
            scheduler.failure(
                self,
                failure.agent_id if failure.HasField("agent_id") else None,
                failure.executor_id if failure.HasField("executor_id") else None,
                failure.status if failure.HasField("status") else None,
            )
        elif kind == Event.ERROR:
            raise Ended(f"the master ended the subscription: {event.error.message}")
        # Heartbeats, and what a later version of the protocol may say.

    def _quietly(self, acknowledge) -> None:
        """An acknowledgement that does not arrive makes the update come again."""
        if self._stopping.is_set():
            return
        try:
            acknowledge()
        except MezzoError as error:
            _log.debug("not acknowledged: %s", error)

    def _send(self, call: Call) -> None:
        name = Call.Type.Name(call.type)
        with self._lock:
            connection = self._connection
        if connection is None or not self._framework.HasField("id"):
            raise Disconnected(f"there is no connection to the master for {name}")
        call.framework_id.CopyFrom(self._framework.id)
        connection.call(name, call.SerializeToString())

    def _ask(self, tasks: List[Tuple[str, Optional[str]]]) -> None:
        call = Call(type=Call.RECONCILE)
        call.reconcile.SetInParent()
        for task, agent in tasks:
            item = call.reconcile.tasks.add()
            item.task_id.value = task
            if agent is not None:
                item.agent_id.value = agent
        self._send(call)

    def _roles(self) -> List[str]:
        multi = v1.FrameworkInfo.Capability.MULTI_ROLE
        if any(capability.type == multi for capability in self._framework.capabilities):
            return list(self._framework.roles)
        return [self._framework.role]

    def _finished(self) -> None:
        self._reconciliation.stop()


def _filter(body, refuse_seconds: Optional[float]) -> None:
    if refuse_seconds is not None:
        body.filters.refuse_seconds = refuse_seconds

