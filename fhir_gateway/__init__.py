"""The open FHIR R4 gateway for mutual recognition of laboratory and imaging results."""

__version__ = "0.1.0"
