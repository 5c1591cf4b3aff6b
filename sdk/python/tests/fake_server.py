"""A master or an agent that says what the test tells it to, over HTTP."""

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mezzo import recordio

WAIT_S = 30


class FakeServer:
    """Speaks the API whose calls are `Call`, for one subscription after the other."""

    def __init__(self, Call):
        self.Call = Call
        self.sessions = queue.Queue()
        self.current = None
        #: Answer to SUBSCRIBE by code, and `Location`: taken if there is none.
        self.refuse = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/x-protobuf"
                call = server.Call.FromString(body)
                if call.type == server.Call.SUBSCRIBE:
                    server.subscribe(self, call)
                else:
                    server.current.answer(self, call)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = "127.0.0.1:%d" % self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def subscribe(self, handler, call):
        if self.refuse is not None:
            code, location = self.refuse
            respond(handler, code, b"not now", location)
            return
        session = Session(handler, call)
        self.current = session
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Mesos-Stream-Id", session.id)
        handler.end_headers()
        self.sessions.put(session)
        session.stream()

    def accept(self):
        """The next subscription."""
        return self.sessions.get(timeout=WAIT_S)

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class Session:
    def __init__(self, handler, subscribe):
        self.id = "stream-1"
        self.subscribe = subscribe.subscribe
        self.framework_id = subscribe.framework_id.value
        self._handler = handler
        self._events = queue.Queue()
        self._calls = queue.Queue()
        #: Code and text for the next calls; 202 when there is none.
        self.answers = queue.Queue()

    def stream(self):
        while True:
            event = self._events.get()
            if event is None:
                self._handler.wfile.write(b"0\r\n\r\n")
                self._handler.close_connection = True
                return
            record = recordio.encode(event.SerializeToString())
            self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(record), record))

    def answer(self, handler, call):
        stream = handler.headers.get("Mesos-Stream-Id")
        assert stream == self.id, stream
        code, text = (202, b"") if self.answers.empty() else self.answers.get()
        self._calls.put(call)
        respond(handler, code, text)

    def send(self, event):
        self._events.put(event)

    def call(self):
        """The next call."""
        return self._calls.get(timeout=WAIT_S)

    def close(self):
        """Ends the stream."""
        self._events.put(None)


def respond(handler, code, body, location=None):
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body)))
    if location:
        handler.send_header("Location", location)
    handler.end_headers()
    handler.wfile.write(body)
