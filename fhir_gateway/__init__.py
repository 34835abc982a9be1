"""The open FHIR R4 gateway for mutual recognition of laboratory and imaging results."""

from zoneinfo import reset_tzpath

#: Days are reckoned by the pinned package `tzdata` on every node, whatever its system has.
reset_tzpath(())

__version__ = "0.1.0"
