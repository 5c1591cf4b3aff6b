"""What can go wrong."""


class MezzoError(Exception):
    """Of this package."""


class AddressError(MezzoError):
    """An address cannot be one; the text says why."""


class EnvironmentVariableError(MezzoError):
    """The environment is not that of an executor; the text names the variable."""


class Unreachable(MezzoError):
    """Nothing takes connections there."""


class NotReady(MezzoError):
    """The server is there and cannot serve now."""


class Protocol(MezzoError):
    """What answers does not speak the v1 API."""


class SubscriptionRefused(MezzoError):
    """The server does not want the subscription. `code` is its HTTP status."""

    def __init__(self, server: str, code: int, message: str):
        super().__init__(f"the {server} refused the subscription with {code}: {message}")
        self.code = code
        self.message = message


class CallRefused(MezzoError):
    """The server does not take a call. `code` is its HTTP status."""

    def __init__(self, server: str, call: str, code: int, message: str):
        super().__init__(f"the {server} refused {call} with {code}: {message}")
        self.call = call
        self.code = code
        self.message = message


class Disconnected(MezzoError):
    """There is no connection, or it broke before the answer to a call came. The server may have
    acted on it: reconcile after the next subscription."""


class Ended(MezzoError):
    """The subscription is over for good; the text says why."""
