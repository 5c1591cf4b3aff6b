"""Finding a server: one address, several that are tried in turn, or a file that holds either."""

import re
from pathlib import Path
from typing import List, Optional, Tuple
from urllib.parse import urlsplit

from mezzo.errors import AddressError

Address = Tuple[str, int]

MASTER_PORT = 5050
AGENT_PORT = 5051

_MAX_ADDRESSES = 64
_MAX_FILE_BYTES = 64 << 10
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/@?#:\[\]]+)(:(?P<port>\d{1,5}))?")


def parse(text: str, default_port: int = MASTER_PORT) -> Address:
    """`host:port`, with or without `http://` before it."""
    bare = text.strip()
    if bare.startswith("zk://"):
        raise AddressError(f"address {text!r}: ZooKeeper is not asked; name the masters themselves")
    if bare.startswith("http://"):
        bare = bare[len("http://") :]
    matched = _ADDRESS.fullmatch(bare.rstrip("/"))
    if not matched:
        raise AddressError(f"address {text!r} is not of the form host:port")
    port = int(matched["port"] or default_port)
    if not 0 < port < 65536:
        raise AddressError(f"address {text!r}: the port is not a number from 1 to 65535")
    return matched["host"].strip("[]"), port


def show(address: Address) -> str:
    """As `parse` reads it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def of_location(location: str) -> Optional[Address]:
    """The address in a `Location`, which masters write as `//host:port/...`."""
    try:
        parts = urlsplit(location)
        return parse(parts.netloc) if parts.netloc else None
    except (AddressError, ValueError):
        return None


class Detector:
    """`host:port`, `host:port,host:port,...`, or `file:///path` of a file that holds one of these."""

    def __init__(self, text: str, default_port: int = MASTER_PORT):
        self._default_port = default_port
        self._file: Optional[Path] = None
        self._list: List[Address] = []
        if text.strip().startswith("file://"):
            self._file = Path(text.strip()[len("file://") :])
            if not self._file.is_absolute():
                raise AddressError(f"address {text!r}: the path after file:// is absolute")
        else:
            self._list = self._parse(text)

    def candidates(self) -> List[Address]:
        """The servers to try, in order. A file is read anew each time."""
        if self._file is None:
            return self._list
        try:
            with self._file.open("rb") as file:
                text = file.read(_MAX_FILE_BYTES).decode("utf-8", "replace")
        except OSError as error:
            raise AddressError(f"{self._file} cannot be read: {error.strerror}") from error
        return self._parse(text)

    def _parse(self, text: str) -> List[Address]:
        parts = text.split(",")
        if len(parts) > _MAX_ADDRESSES:
            raise AddressError(f"there are more than {_MAX_ADDRESSES} addresses")
        return [parse(part, self._default_port) for part in parts]
