"""A TCP proxy that misbehaves by script, for the catalogue of faults and for whole suites in bad weather.

A script decides about one connection; scripts are those of `tests.gateway.rawserver`. `relayed` passes everything on to
a real server, in the weather it is given; any other script speaks for itself.
"""

from tests.faultproxy.proxy import CLEAR, in_turn, proxied, relayed
from tests.faultproxy.weather import KNOWN, End, Weather, asked, under_weather

__all__ = [
    "CLEAR",
    "KNOWN",
    "End",
    "Weather",
    "asked",
    "in_turn",
    "proxied",
    "relayed",
    "under_weather",
]
