"""Durations as Mesos writes them: a number and a unit, without a space."""

import re

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "secs": 1.0,
    "mins": 60.0,
    "hrs": 3600.0,
    "days": 86400.0,
    "weeks": 604800.0,
}
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)\s*")


def parse(text: str) -> float:
    """Seconds in `5secs` or `1.5mins`. Raises ValueError with a sentence."""
    matched = _DURATION.fullmatch(text)
    if not matched or matched[2] not in _UNITS:
        raise ValueError(f"{text!r} is no duration; write e.g. 5secs (units: {', '.join(_UNITS)})")
    return float(matched[1]) * _UNITS[matched[2]]
