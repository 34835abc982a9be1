"""Media types as a code system (hl7.org/fhir/R4/valueset-mimetypes.html, RFC 6838 and 2045).

Every well-formed type is a code, with parameters or without; the registry of IANA is not read, so
a subtype that nobody registered passes. Top-level types are those of RFC 9695's time and x-*.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fhir_gateway.terminology.system import Concept, Content

BCP_13 = "urn:ietf:bcp:13"

_LONGEST = 255
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&\-^_.+]{0,126}"
_TOP = (
    r"(?:application|audio|example|font|haptics|image|message|model|multipart|text|video"
    r"|[xX]-[A-Za-z0-9][A-Za-z0-9!#$&\-^_.+]{0,60})"
)
_TOKEN = r"[!#$%&'*+\-.^_`|~A-Za-z0-9]+"  # noqa: S105 - a token of RFC 2045, no secret
_PARAMETER = rf'[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*")'
_TYPE = re.compile(rf"{_TOP}/{_NAME}(?:{_PARAMETER})*", re.IGNORECASE)


class MediaTypeSystem:
    """A System (terminology.system) whose codes are a grammar."""

    url = BCP_13
    version = ""
    title = "Media types (BCP 13)"
    content: Content = "complete"
    case_sensitive = False
    language = "en"
    notice = ""
    value_set = "http://hl7.org/fhir/ValueSet/mimetypes"

    def find(self, code: str) -> Concept | None:
        """The media type; None when it is not well-formed."""
        if len(code) > _LONGEST or not _TYPE.fullmatch(code):
            return None
        return Concept(code, code)

    def concepts(self) -> None:
        """Nobody can list them."""

    def parents(self, code: str) -> Sequence[str]:
        """None: media types form no hierarchy."""
        return ()

    def children(self, code: str) -> Sequence[str]:
        """None."""
        return ()
