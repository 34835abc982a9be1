"""The interactions of the REST door: one table for its routes and for the CapabilityStatement."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Interaction(NamedTuple):
    """One row: the code of FHIR (restful-interaction), the method, and the path below the base.

    `{type}`, `{id}`, `{version}`, `{job}` and `{file}` stand for one segment each.
    """

    code: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    level: Literal["system", "type", "server"]


INTERACTIONS: tuple[Interaction, ...] = (
    Interaction("capabilities", "GET", "metadata", "server"),
    Interaction("transaction", "POST", "", "system"),  # and batch: Bundle.type decides
    Interaction("create", "POST", "{type}", "type"),
    Interaction("search-type", "GET", "{type}", "type"),
    Interaction("search-type", "POST", "{type}/_search", "type"),
    Interaction("update", "PUT", "{type}", "type"),  # conditional, as the next two
    Interaction("patch", "PATCH", "{type}", "type"),
    Interaction("delete", "DELETE", "{type}", "type"),
    Interaction("read", "GET", "{type}/{id}", "type"),
    Interaction("update", "PUT", "{type}/{id}", "type"),
    Interaction("patch", "PATCH", "{type}/{id}", "type"),
    Interaction("delete", "DELETE", "{type}/{id}", "type"),
    Interaction("history-instance", "GET", "{type}/{id}/_history", "type"),
    Interaction("vread", "GET", "{type}/{id}/_history/{version}", "type"),
    Interaction("search-type", "GET", "{type}/{id}/{member}", "type"),  # in a compartment
    Interaction("search-type", "POST", "{type}/{id}/{member}/_search", "type"),
    Interaction("search-system", "GET", "", "system"),
    Interaction("search-system", "POST", "_search", "system"),
    Interaction("history-type", "GET", "{type}/_history", "type"),
    Interaction("history-system", "GET", "_history", "system"),
    # what is answered later: its state and result, its end, one of its files
    Interaction("operation", "GET", "_async/{job}", "server"),
    Interaction("operation", "DELETE", "_async/{job}", "server"),
    Interaction("operation", "GET", "_async/{job}/{file}", "server"),
)
