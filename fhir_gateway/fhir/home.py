"""Home rules: which home a resource's rows belong to, one row per concrete type of R4.

The patient compartment (hl7.org/fhir/R4/compartmentdefinition-patient.html) says which elements
tie a resource to a patient; here its principal elements are taken, in order of precedence, and
what it lacks is added (GuidanceResponse.subject, Task.for, Device.patient …). A home never
changes, so a row here is a promise about stored data: see docs/architecture.md, section 5.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference


class Rule(NamedTuple):
    """Where a type's home is read, first hit wins: a Patient, a resource to follow, an institution.

    A path may end in `:Type`; then only references to that type count. All empty: home 0.
    """

    person: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    institution: tuple[str, ...] = ()


class HomeRef(NamedTuple):
    """The home of one resource: a Patient's logical id, or "Type/id", or an Organization's id."""

    patient: str | None = None
    follow: str | None = None
    institution: str | None = None


#: The person that a resource is about. Patient itself is its own.
_PERSON = {
    "Account": "subject",
    "AdverseEvent": "subject",
    "AllergyIntolerance": "patient",
    "Appointment": "participant.actor",
    "AppointmentResponse": "actor",
    "AuditEvent": "entity.what agent.who",
    "Basic": "subject",
    "BiologicallyDerivedProduct": "collection.source",
    "BodyStructure": "patient",
    "CarePlan": "subject",
    "CareTeam": "subject",
    "ChargeItem": "subject",
    "Claim": "patient",
    "ClaimResponse": "patient",
    "ClinicalImpression": "subject",
    "Communication": "subject sender recipient",
    "CommunicationRequest": "subject sender recipient requester",
    "Composition": "subject",
    "Condition": "subject",
    "Consent": "patient",
    "Contract": "subject",
    "Coverage": "beneficiary subscriber policyHolder payor",
    "CoverageEligibilityRequest": "patient",
    "CoverageEligibilityResponse": "patient",
    "DetectedIssue": "patient",
    "Device": "patient",
    "DeviceRequest": "subject",
    "DeviceUseStatement": "subject",
    "DiagnosticReport": "subject",
    "DocumentManifest": "subject",
    "DocumentReference": "subject",
    "Encounter": "subject",
    "EnrollmentRequest": "candidate",
    "EpisodeOfCare": "patient",
    "ExplanationOfBenefit": "patient",
    "FamilyMemberHistory": "patient",
    "Flag": "subject",
    "Goal": "subject",
    "GuidanceResponse": "subject",
    "ImagingStudy": "subject",
    "Immunization": "patient",
    "ImmunizationEvaluation": "patient",
    "ImmunizationRecommendation": "patient",
    "Invoice": "subject recipient",
    "List": "subject source",
    "MeasureReport": "subject",
    "Media": "subject",
    "MedicationAdministration": "subject",
    "MedicationDispense": "subject receiver",
    "MedicationRequest": "subject",
    "MedicationStatement": "subject",
    "MolecularSequence": "patient",
    "NutritionOrder": "patient",
    "Observation": "subject",
    "Patient": "",
    "Person": "link.target",
    "Procedure": "subject",
    "QuestionnaireResponse": "subject source author",
    "RelatedPerson": "patient",
    "RequestGroup": "subject",
    "ResearchSubject": "individual",
    "RiskAssessment": "subject",
    "ServiceRequest": "subject",
    "Specimen": "subject",
    "SupplyDelivery": "patient",
    "SupplyRequest": "deliverTo",
    "Task": "for",
    "VisionPrescription": "patient",
}

#: Shares the home of what it points to; for a type that is in _PERSON too, when no person is named.
_FOLLOW = {
    "AppointmentResponse": "appointment",
    "Binary": "securityContext",
    "DeviceMetric": "source",
    "EnrollmentResponse": "request",
    "Linkage": "item.resource",
    "MessageHeader": "focus",
    "PaymentNotice": "request response",
    "Provenance": "target",
    "Schedule": "actor:HealthcareService",
    "Slot": "schedule",
    "Task": "focus basedOn",
    "VerificationResult": "target",
}

#: Belongs to the institution that provides it.
_INSTITUTION = {"HealthcareService": "providedBy"}

#: Home 0: definitions, directories, and what is about many persons at once.
_REST = """
    ActivityDefinition Bundle CapabilityStatement CatalogEntry ChargeItemDefinition CodeSystem
    CompartmentDefinition ConceptMap DeviceDefinition EffectEvidenceSynthesis Endpoint
    EventDefinition Evidence EvidenceVariable ExampleScenario GraphDefinition Group
    ImplementationGuide InsurancePlan Library Location Measure Medication MedicationKnowledge
    MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication
    MedicinalProductIndication MedicinalProductIngredient MedicinalProductInteraction
    MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
    MedicinalProductUndesirableEffect MessageDefinition NamingSystem ObservationDefinition
    OperationDefinition OperationOutcome Organization OrganizationAffiliation Parameters
    PaymentReconciliation PlanDefinition Practitioner PractitionerRole Questionnaire
    ResearchDefinition ResearchElementDefinition ResearchStudy RiskEvidenceSynthesis
    SearchParameter SpecimenDefinition StructureDefinition StructureMap Subscription Substance
    SubstanceNucleicAcid SubstancePolymer SubstanceProtein SubstanceReferenceInformation
    SubstanceSourceMaterial SubstanceSpecification TerminologyCapabilities TestReport TestScript
    ValueSet
"""


def _rules() -> Mapping[str, Rule]:
    names = {*_PERSON, *_FOLLOW, *_INSTITUTION, *_REST.split()}
    tables = (_PERSON, _FOLLOW, _INSTITUTION)
    return {
        name: Rule(*(tuple(table.get(name, "").split()) for table in tables))
        for name in sorted(names)
    }


HOME_RULES: Mapping[str, Rule] = _rules()

#: What speaks of a person, by what it names; where it names nobody it stands in home 0.
PERSONAL_TYPES = frozenset(_PERSON)


def home_of(resource: Mapping[str, Any]) -> HomeRef:
    """The home that a resource asks for; all None means home 0.

    Only relative references count: an absolute one names a resource of another server.
    """
    type = resource["resourceType"]
    if type == "Patient":
        return HomeRef(patient=resource["id"])
    rule = HOME_RULES[type]
    person = _first(resource, rule.person, "Patient")
    if person:
        return HomeRef(patient=person.id)
    followed = _first(resource, rule.follow)
    if followed and followed.type == "Patient":
        return HomeRef(patient=followed.id)
    if followed:
        return HomeRef(follow=followed.key)
    provider = _first(resource, rule.institution, "Organization")
    return HomeRef(institution=provider.id) if provider else HomeRef()


def followed(resource: Mapping[str, Any]) -> list[Reference]:
    """All that a resource may share the home of, in the order of its rule."""
    return [
        reference
        for whole in HOME_RULES[resource["resourceType"]].follow
        for reference in _references(resource, whole)
    ]


def _first(
    resource: Mapping[str, Any], paths: tuple[str, ...], wanted: str = ""
) -> Reference | None:
    """The first local reference at one of these paths, of the wanted type where one is named."""
    for whole in paths:
        value = resource.get(whole)
        if value.__class__ is dict:  # one plain element, as most have
            text = value.get("reference")
            found = parse_reference(text) if text else None
            if isinstance(found, Reference) and wanted in ("", found.type):
                return found
            continue
        for reference in _references(resource, whole):
            if wanted in ("", reference.type):
                return reference
    return None


def _references(resource: Mapping[str, Any], whole: str) -> Iterator[Reference]:
    """The local references at a path, of the one type that the path may name."""
    path, _, only = whole.partition(":")
    for value in _values(resource, path):
        reference = parse_reference(value.get("reference") or "")
        if isinstance(reference, Reference) and only in ("", reference.type):
            yield reference


def _values(resource: Mapping[str, Any], path: str) -> list[Any]:
    values: list[Any] = [resource]
    for name in path.split("."):
        values = [found for value in values for found in _children(value, name)]
    return values


def _children(value: Mapping[str, Any], name: str) -> list[Any]:
    """The values of an element; those of a choice of types are spelled as references here."""
    found = value.get(name)
    if found is None:
        found = value.get(f"{name}Reference")
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def institution_home(organization: str) -> int:
    """The home of an institution's own rows: negative, the same for the same logical id."""
    digest = blake2b(organization.encode(), digest_size=8, person=b"institution").digest()
    return -(int.from_bytes(digest, "big") >> 2) - 1
