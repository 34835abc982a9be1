"""JSON Patch: changes to a resource by JSON pointers (RFC 6902, hl7.org/fhir/R4/http.html#patch).

The patch works on the parsed resource, so numbers that it does not touch keep their spelling, and
those that it brings keep theirs. Refusals name the operation by its number, counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jsonpatch
import jsonpointer

from fhir_gateway.errors import Invalid, Structure, TooCostly, Unprocessable
from fhir_gateway.fhir.wire import MAX_DEPTH, parse, without_bom

#: More operations than any editor makes at once.
MAX_OPERATIONS = 1_000

#: Values that `copy` may add all in all; each copy of a copy would double the resource. A text is
#: as many values as it has pieces.
MAX_COPIED, _PIECE = 50_000, 64

Operation = Mapping[str, Any]

#: What each operation needs beside `op` and `path`.
_NEEDS = {
    "add": "value",
    "remove": "",
    "replace": "value",
    "move": "from",
    "copy": "from",
    "test": "value",
}
_MARK = "operations"


def read_json_patch(body: bytes) -> list[Operation]:
    """The operations of a JSON Patch document.

    Raises Structure when it is not a clean JSON array, Invalid when an operation is malformed,
    TooCostly for too many.
    """
    text = without_bom(body).strip()
    if text[:1] != b"[":
        raise Structure("A JSON Patch is one JSON array of operations", rule="json-patch")
    document = parse(b'{"%b":%b}' % (_MARK.encode(), text))
    operations = document[_MARK]
    if len(document) != 1 or not isinstance(operations, list):
        raise Structure("A JSON Patch is one JSON array of operations", rule="json-patch")
    if len(operations) > MAX_OPERATIONS:
        raise TooCostly(f"A patch has {MAX_OPERATIONS} operations at most", rule="patch-limit")
    for number, operation in enumerate(operations):
        _check(operation, number)
    return operations


def _check(operation: Any, number: int) -> None:
    op = operation.get("op") if isinstance(operation, dict) else None
    if not isinstance(op, str) or op not in _NEEDS:
        raise _malformed(number, f"has an op, one of {', '.join(_NEEDS)}")
    needed = _NEEDS[op]
    if needed and needed not in operation:
        raise _malformed(number, f"({op}) lacks {needed}")
    for name in ("path", "from") if needed == "from" else ("path",):
        pointer = operation.get(name)
        if not isinstance(pointer, str) or pointer[:1] not in ("", "/"):
            raise _malformed(number, f"({op}) has a JSON pointer as {name}")
        if pointer.count("/") > MAX_DEPTH:
            raise _malformed(number, f"points over {MAX_DEPTH} levels deep")


def _malformed(number: int, says: str) -> Invalid:
    return Invalid(f"Operation {number} of a JSON Patch {says}", rule="patch-operation")


def apply_json_patch(resource: dict[str, Any], operations: Sequence[Operation]) -> Any:
    """The resource after all operations, which may change the one given. Anything can come out.

    Raises Unprocessable when a `test` fails or a path leads to nothing, TooCostly for copies that
    make it grow too much.
    """
    document: Any = resource
    copied = 0
    for number, operation in enumerate(operations):
        op = operation["op"]
        try:
            if op == "copy":
                copied += weight(jsonpointer.resolve_pointer(document, operation["from"]))
                if copied > MAX_COPIED:
                    raise TooCostly("The copies of this patch are too large", rule="patch-limit")
            document = jsonpatch.JsonPatch([operation]).apply(document, in_place=True)
        except jsonpatch.JsonPatchTestFailed:
            raise Unprocessable(
                f"Operation {number} (test) failed: the resource says something else",
                rule="patch-test",
            ) from None
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError):
            raise Unprocessable(
                f"Operation {number} ({op}) has a path that leads to nothing here",
                rule="patch-path",
            ) from None
    return document


def weight(value: Any) -> int:
    """How many values a value holds, itself too, long texts by their length."""
    size, stack = 0, [value]
    while stack:
        one = stack.pop()
        size += 1
        if isinstance(one, str):
            size += len(one) // _PIECE
        elif isinstance(one, dict):
            size += sum(len(name) // _PIECE for name in one)
            stack += one.values()
        elif isinstance(one, list):
            stack += one
    return size
