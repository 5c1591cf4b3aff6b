"""One subscription over HTTP: a connection for the stream of events, one for calls."""

import http.client
import socket
import threading
from typing import Dict, Generic, Iterator, Optional, Tuple, Type, TypeVar

from google.protobuf.message import DecodeError, Message

from mezzo import addresses, recordio
from mezzo.addresses import Address, Detector
from mezzo.errors import (
    CallRefused,
    Disconnected,
    MezzoError,
    NotReady,
    Protocol,
    SubscriptionRefused,
    Unreachable,
)

E = TypeVar("E", bound=Message)

_MIME = "application/x-protobuf"
_CONNECT_TIMEOUT_S = 5.0

#: A master answers a subscription when its log has committed it.
_SUBSCRIBE_TIMEOUT_S = 30.0

#: A call that takes longer has been lost.
_CALL_TIMEOUT_S = 75.0

#: So many heartbeats may fail to appear before a stream is taken for dead.
_MISSED_HEARTBEATS = 5

#: Servers that send a client elsewhere. More in a row go round in circles.
_MAX_REDIRECTS = 4

#: A refusal is a sentence; a longer one is cut.
_MAX_REFUSAL_BYTES = 64 << 10

_PIECE_BYTES = 64 << 10


class Connection(Generic[E]):
    """A subscription that stands. Calls may be made from any thread."""

    def __init__(
        self,
        server: str,
        path: str,
        address: Address,
        event: Type[E],
        headers: Dict[str, str],
    ):
        self._server = server
        self._path = path
        self._event = event
        self._headers = {"Content-Type": _MIME, "Accept": _MIME, **headers}
        self.address = address
        self._stream: Optional[http.client.HTTPResponse] = None
        self._socket: Optional[socket.socket] = None
        self._stream_id: Optional[str] = None
        self._closed = False
        self._calls: Optional[http.client.HTTPConnection] = None
        self._lock = threading.Lock()

    def subscribe(self, call: bytes) -> Optional[Address]:
        """Sends SUBSCRIBE. Returns None when it is taken, or the address to go to instead."""
        connection = self._dial()
        connection.sock.settimeout(_SUBSCRIBE_TIMEOUT_S)
        self._socket = connection.sock
        try:
            connection.request("POST", self._path, call, self._headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NotReady(
                f"the {self._server} at {addresses.show(self.address)} broke the connection: {error}"
            ) from error
        if response.status == 200:
            self._stream = response
            self._stream_id = response.getheader("Mesos-Stream-Id")
            return None
        text = _sentence(response)
        location = response.getheader("Location")
        connection.close()
        if 300 <= response.status < 400 and location:
            elsewhere = addresses.of_location(location)
            if elsewhere:
                return elsewhere
        # A master of Mesos has no endpoints until it has started.
        if response.status in (404, 503):
            raise NotReady(
                f"the {self._server} at {addresses.show(self.address)} cannot take the"
                f" subscription now: {text}"
            )
        raise SubscriptionRefused(self._server, response.status, text)

    def expect_heartbeats(self, interval: float) -> None:
        """Takes the stream for dead when nothing comes for five such intervals, in seconds."""
        if self._socket is not None and interval > 0:
            self._socket.settimeout(interval * _MISSED_HEARTBEATS)

    def wait_for_ever(self) -> None:
        """Takes silence for nothing."""
        if self._socket is not None:
            self._socket.settimeout(None)

    def events(self) -> Iterator[E]:
        """Events until the stream ends, which raises Disconnected. To be read by one thread."""
        try:
            yield from self._read()
        finally:
            if self._stream is not None:
                self._stream.close()
            if self._socket is not None:
                self._socket.close()

    def _read(self) -> Iterator[E]:
        decoder = recordio.Decoder()
        while True:
            try:
                data = self._stream.read1(_PIECE_BYTES) if self._stream else b""
            except socket.timeout as error:
                raise Disconnected(f"the heartbeats of the {self._server} stopped") from error
            except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
                raise Disconnected(f"the stream broke: {error}") from error
            if not data:
                raise Disconnected(f"the {self._server} closed the stream")
            for record in decoder.push(data):
                try:
                    event = self._event.FromString(record)
                except DecodeError as error:
                    raise Protocol(f"an event of the {self._server} cannot be read: {error}") from error
                yield event

    def call(self, name: str, call: bytes) -> None:
        """Sends a call and waits until it is taken."""
        headers = dict(self._headers)
        if self._stream_id:
            headers["Mesos-Stream-Id"] = self._stream_id
        with self._lock:
            if self._closed:
                raise Disconnected(f"there is no connection to the {self._server} for {name}")
            try:
                status, text = self._post(call, headers)
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                raise Disconnected(
                    f"the connection to the {self._server} was lost before {name} was answered"
                ) from error
            if status == 403 and "is not subscribed" in text:
                # The server has closed the stream, and what is to be read of it is of no use any more.
                self._hang_up()
                raise Disconnected(f"the {self._server} has ended the subscription: {text}")
        if not 200 <= status < 300:
            raise CallRefused(self._server, name, status, text)

    def _post(self, call: bytes, headers: Dict[str, str]) -> Tuple[int, str]:
        if self._calls is None or _is_closed(self._calls.sock):
            if self._calls is not None:
                self._calls.close()
            self._calls = self._dial()
            self._calls.sock.settimeout(_CALL_TIMEOUT_S)
        self._calls.request("POST", self._path, call, headers)
        response = self._calls.getresponse()
        return response.status, _sentence(response)

    def close(self) -> None:
        """Ends the subscription, and whoever waits for its events. From any thread."""
        with self._lock:
            self._hang_up()

    def _hang_up(self) -> None:
        self._closed = True
        if self._calls is not None:
            self._calls.close()
            self._calls = None
        if self._socket is not None:
            try:
                # The reader wakes; it is the one to close.
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It is closed already.

    def _dial(self) -> http.client.HTTPConnection:
        host, port = self.address
        connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_TIMEOUT_S)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise Unreachable(
                f"no {self._server} answers at {addresses.show(self.address)}: {error}"
            ) from error
        return connection


def open_any(
    detector: Detector,
    server: str,
    path: str,
    event: Type[E],
    subscribe: bytes,
    headers: Dict[str, str],
) -> Connection[E]:
    """Tries the servers in turn, following those that name another, until one takes the
    subscription or one refuses it."""
    kept: Optional[MezzoError] = None
    for address in detector.candidates():
        try:
            return _follow(server, path, address, event, subscribe, headers)
        except (Unreachable, NotReady) as error:
            # One that is there and not ready is most worth telling.
            kept = kept if isinstance(kept, NotReady) else error
    raise kept or NotReady(f"there is no address of a {server}")


def _follow(
    server: str,
    path: str,
    address: Address,
    event: Type[E],
    subscribe: bytes,
    headers: Dict[str, str],
) -> Connection[E]:
    for _ in range(_MAX_REDIRECTS + 1):
        connection = Connection(server, path, address, event, headers)
        elsewhere = connection.subscribe(subscribe)
        if elsewhere is None:
            return connection
        address = elsewhere
    raise NotReady(f"clients of the {server} are sent elsewhere more than {_MAX_REDIRECTS} times")


def _sentence(response: http.client.HTTPResponse) -> str:
    text = response.read(_MAX_REFUSAL_BYTES).decode("utf-8", "replace").strip()
    return text or response.reason


def _is_closed(sock: Optional[socket.socket]) -> bool:
    """Whether the server has closed a connection that lay idle."""
    if sock is None:
        return True
    timeout = sock.gettimeout()
    try:
        sock.setblocking(False)
        # Nothing is expected: what can be read is the end.
        sock.recv(1, socket.MSG_PEEK)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        try:
            sock.settimeout(timeout)
        except OSError:
            pass
