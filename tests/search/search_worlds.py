"""Random small cities and searches across them: who treats whom where, with chains and _has."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st
from search_loader import Loader
from search_matcher import World

from fhir_gateway.security.actor import Access

PEOPLE = ["p0", "p1", "p2", "p3"]
STAFF = ["d0", "d1", "d2"]
WARDS = ["w0", "w1", "w2"]
NAMES = ["王", "李", "Anna"]
CODES = ["a", "b"]


def refer(*names: str) -> st.SearchStrategy[dict[str, str]]:
    return st.sampled_from([{"reference": name} for name in names])


def some(
    strategy: st.SearchStrategy[Any], most: int = 2, *, least: int = 0
) -> st.SearchStrategy[list[Any]]:
    return st.lists(strategy, min_size=least, max_size=most)


def record(type: str, **members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A resource with its members; empty lists are left out."""
    made = st.fixed_dictionaries({"resourceType": st.just(type), **members})
    return made.map(lambda one: {name: value for name, value in one.items() if value != []})


people = st.sampled_from(PEOPLE).map(lambda id: f"Patient/{id}")
staff = [f"Practitioner/{id}" for id in STAFF]
wards = [f"Organization/{id}" for id in WARDS]
name = st.sampled_from(NAMES).map(lambda text: [{"family": text}])
concept = st.sampled_from(CODES).map(lambda code: {"coding": [{"code": code}]})
results = [f"Observation/o{number}" for number in range(6)]

patient = record(
    "Patient", name=name, gender=st.sampled_from(["male", "female"]),
    generalPractitioner=some(refer(*staff, *wards)), managingOrganization=refer(*wards),
)  # fmt: skip
practitioner = record("Practitioner", name=name)
ward = record("Organization", partOf=refer(*wards), name=st.sampled_from(NAMES))
role = record("PractitionerRole", practitioner=refer(*staff), organization=refer(*wards))
visit = record(
    "Encounter", status=st.sampled_from(["planned", "finished"]),
    subject=refer(*(f"Patient/{id}" for id in PEOPLE)),
)  # fmt: skip
observation = record(
    "Observation", status=st.sampled_from(["final", "amended"]), code=concept,
    subject=refer(*(f"Patient/{id}" for id in PEOPLE), "Group/g"),
    performer=some(refer(*staff, *wards, "Patient/p0")), hasMember=some(refer(*results)),
    encounter=refer("Encounter/e0", "Encounter/e1"),
)  # fmt: skip
provenance = record("Provenance", target=some(refer(*results, *staff), 1))

population = st.tuples(
    *[patient.map(lambda one, id=id: {**one, "id": id}) for id in PEOPLE],
    *[practitioner.map(lambda one, id=id: {**one, "id": id}) for id in STAFF],
    *[ward.map(lambda one, id=id: {**one, "id": id}) for id in WARDS],
    *[visit.map(lambda one, id=id: {**one, "id": id}) for id in ("e0", "e1")],
    st.just({"resourceType": "Group", "id": "g", "code": {"coding": [{"code": "a"}]}}),
    *[role.map(lambda one, n=n: {**one, "id": f"l{n}"}) for n in range(2)],
    *[observation.map(lambda one, n=n: {**one, "id": f"o{n}"}) for n in range(6)],
    *[provenance.map(lambda one, n=n: {**one, "id": f"v{n}"}) for n in range(2)],
)

family = st.sampled_from(NAMES)
code = st.sampled_from(CODES)
about_person = st.one_of(
    st.tuples(st.just("family"), family),
    st.tuples(st.just("gender"), st.sampled_from(["male", "female"])),
    st.tuples(st.just("general-practitioner:Practitioner.family"), family),
    st.tuples(st.just("_has:Observation:patient:code"), code),
    st.tuples(st.just("_has:Observation:patient:performer:Practitioner.family"), family),
    st.tuples(st.just("_has:Observation:performer:code"), code),
    st.tuples(st.just("_has:Encounter:patient:status"), st.just("finished")),
)
about_result = st.one_of(
    st.tuples(st.just("code"), code),
    st.tuples(st.just("code:not"), code),
    st.tuples(st.just("status"), st.sampled_from(["final", "amended"])),
    st.tuples(st.just("performer.family"), family),
    st.tuples(st.just("performer:Practitioner.family"), family),
    st.tuples(st.just("performer:Practitioner._has:PractitionerRole:practitioner:organization"),
              st.sampled_from(wards)),
    st.tuples(st.just("has-member.code"), code),
    st.tuples(st.just("has-member.has-member.code"), code),
    st.tuples(st.just("has-member.patient.family"), family),
    st.tuples(st.just("encounter.status"), st.just("finished")),
    st.tuples(st.just("subject:Group.code"), code),
    st.tuples(st.just("_has:Provenance:target:target"), st.sampled_from([*results, *staff])),
    st.tuples(st.just("_has:Observation:has-member:code"), code),
)  # fmt: skip
about_staff = st.one_of(
    st.tuples(st.just("family"), family),
    st.tuples(st.just("_has:PractitionerRole:practitioner:organization.partof.partof"),
              st.sampled_from(wards)),
    st.tuples(st.just("_has:Observation:performer:code"), code),
    st.tuples(st.just("_has:Observation:performer:patient.family"), family),
    st.tuples(st.just("_has:Patient:general-practitioner:gender"), st.just("male")),
)  # fmt: skip


def through(link: str, inner: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[Any]:
    return inner.map(lambda pair: (f"{link}.{pair[0]}", pair[1]))


bound = st.tuples(st.just("patient"), st.sampled_from(PEOPLE))
queries = st.one_of(
    st.tuples(st.just("Patient"), some(about_person, least=1)),
    st.tuples(st.just("Practitioner"), some(about_staff, least=1)),
    st.tuples(
        st.just("Observation"),
        st.tuples(
            st.one_of(bound, through("patient", about_person), about_result,
                      through("subject:Patient", about_person)),
            about_result,
        ).map(list),
    ),
    st.tuples(st.just("Provenance"), st.tuples(through("target:Observation", about_result))),
    st.tuples(st.just("Encounter"), st.tuples(through("subject:Patient", about_person))),
)  # fmt: skip

#: What LINKS of the matcher reads for a plain reference parameter.
PLAIN = ("organization", "target", "patient", "partof")


class Whole(World):
    """The matcher, with plain reference parameters, and homes.

    A _has from one result to another looks in the home of what is pointed to, and in home 0.
    """

    def __init__(
        self, resources: list[dict[str, Any]], places: dict[tuple[str, str], tuple[int, int]]
    ) -> None:
        super().__init__(resources)
        self._homes = {f"{type}/{id}": home for (type, id), (home, _) in places.items()}

    def holds(self, resource: dict[str, Any], name: str, value: str) -> bool:
        if name in PLAIN:
            wanted = f"Patient/{value}" if name == "patient" else value
            return wanted in self._named(resource, name)
        return super().holds(resource, name, value)

    def is_near(self, source: dict[str, Any], target: dict[str, Any], code: str) -> bool:
        if code != "has-member":
            return True
        mine, theirs = (
            self._homes[f"{one['resourceType']}/{one['id']}"] for one in (source, target)
        )
        return mine in (theirs, 0)

    def included(self, matches: list[str]) -> set[str]:
        """What an _include of everything from these, and of some links again and again, reaches."""
        links = {"Observation": ["has-member"], "Patient": ["general-practitioner"],
                 "Organization": ["partof"]}  # fmt: skip
        first = ["subject", "encounter", "performer", "has-member"]
        reached: set[str] = set()
        waiting = [(name, first) for name in matches]
        while waiting:
            name, codes = waiting.pop()
            for code in codes:
                for text in self._named(self.by_name[name], code):
                    if text in self.by_name and text not in reached:
                        reached.add(text)
                        waiting.append((text, links.get(text.partition("/")[0], [])))
        return reached


class City(NamedTuple):
    """Resources as they are stored: owners, deletions, who is one person; and who asks."""

    resources: tuple[dict[str, Any], ...]
    owners: list[int]
    deleted: set[int]
    one_person: list[str]
    restricted: bool

    @property
    def access(self) -> Access:
        """Everybody's resources, or those of institution 1 and of nobody."""
        return Access(owners=frozenset({1})) if self.restricted else Access()

    def stored(self) -> tuple[Loader, Whole]:
        """The resources in a database, and those that the caller sees in the matcher."""
        loader = Loader()
        loader.homes |= dict.fromkeys(self.one_person, 1)
        loader.homes |= {id: 2 + PEOPLE.index(id) for id in PEOPLE if id not in self.one_person}
        seen = []
        for number, (resource, owner) in enumerate(zip(self.resources, self.owners, strict=True)):
            loader.put(resource, owner=owner)
            if number in self.deleted:
                loader.delete(resource["resourceType"], resource["id"])
            elif not self.restricted or owner < 2:
                seen.append(resource)
        return loader, Whole(seen, loader.places)


cities = st.builds(
    City,
    population,
    st.lists(st.integers(0, 2), min_size=23, max_size=23),
    st.sets(st.integers(0, 22), max_size=2),
    st.sampled_from([["p0"], ["p0", "p1"], []]),
    st.booleans(),
)
urls = queries.map(
    lambda query: f"{query[0]}?" + "&".join(f"{name}={value}" for name, value in query[1])
)
