"""What each resource type allows: the table behind the routes and the CapabilityStatement."""

from __future__ import annotations

import re
from functools import lru_cache

from fhir_gateway.errors import Forbidden, Invalid, MethodNotAllowed, NotFound
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.references import JOURNAL_TYPES
from fhir_gateway.security.actor import Actor

#: Parameters travels as a body and is never stored (hl7.org/fhir/R4/parameters.html).
UNSTORED_TYPES = frozenset({"Parameters"})

#: What the gateway itself decides by: definitions, rule sets, the register of evaluations. An
#: institution reads them; they are published by the operator (command line) or, in a
#: demonstration, under open access. Beside these types: an Organization of the registry, see
#: claims.py.
GOVERNED_TYPES = frozenset({
    "ActivityDefinition", "CapabilityStatement", "CodeSystem", "CompartmentDefinition",
    "ConceptMap", "GraphDefinition", "ImplementationGuide", "Library", "Measure",
    "MessageDefinition", "NamingSystem", "OperationDefinition", "PlanDefinition",
    "SearchParameter", "StructureDefinition", "StructureMap", "TerminologyCapabilities",
    "ValueSet", "VerificationResult",
})  # fmt: skip

#: Governed, and yet an institution may write some of them.
_LOOKED_AT = frozenset({"ConceptMap", "VerificationResult"})

_PUBLISHED = GOVERNED_TYPES - _LOOKED_AT

#: Commits to these bump the epoch, so that every process reloads before it answers: by type, since
#: a version that no longer says anything, and a deletion, take back what an earlier one said.
EPOCH_TYPES = GOVERNED_TYPES | {
    "Consent", "Endpoint", "Organization", "OrganizationAffiliation",
}  # fmt: skip

READS = ("read", "vread", "history-instance", "history-type", "search-type")
WRITES = ("create", "update", "patch", "delete")


def interactions_of(type: str) -> tuple[str, ...]:
    """The interactions that a resource type offers."""
    if type in UNSTORED_TYPES:
        return ()
    return READS if type in JOURNAL_TYPES else READS + WRITES


def check_type(type: str, interaction: str) -> None:
    """Raises NotFound for an unknown type, MethodNotAllowed for what the type does not offer."""
    offered = _offered(type)
    if offered is None:
        raise NotFound("There is no such resource type in FHIR R4", rule="unknown-type")
    if interaction not in offered:
        raise MethodNotAllowed(f"{type} offers no {interaction}", rule="interaction")


@lru_cache(maxsize=512)
def _offered(type: str) -> tuple[str, ...] | None:
    known = type in definitions().search_parameters or type in definitions().resource_types
    return interactions_of(type) if known else None


#: Owns what persons store themselves. No institution has it as its own: what a person says opens to
#: others like what another institution holds, and is not for all as what belongs to nobody (0).
PERSONS = key64("persons themselves")


def owner_of(actor: Actor) -> int:
    """The owner key of what an actor stores: its institution's, that of all persons for a patient,
    0 for the gateway itself."""
    if actor.role == "patient":
        return PERSONS
    return key64(f"Organization/{actor.institution}") if actor.institution else 0


def check_owner(actor: Actor, owner: int) -> None:
    """Raises Forbidden when an institution would change what is not its own."""
    if actor.bound and owner != owner_of(actor):
        raise Forbidden("This resource belongs to another institution", rule="owner")


def check_may_write(actor: Actor, type: str) -> None:
    """Raises Forbidden when an institution would write what the gateway decides by.

    A ConceptMap may be one of its own codes, a VerificationResult an assertion of its own or the
    word of an evaluating body: interactions.local_codes and .evaluations look at what they say.
    """
    if actor.bound and type in _PUBLISHED:
        raise Forbidden(f"{type} is published by the gateway's operator", rule="governed")


def check_id(id: str) -> None:
    """Raises Invalid for what cannot be a logical id (datatypes.html#id)."""
    if not _ID.fullmatch(id):
        raise Invalid("A logical id is 1 to 64 letters, digits, - and .", rule="id")


_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
