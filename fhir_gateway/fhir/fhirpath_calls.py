"""The functions of FHIRPath that take values: existence, subsets, texts, numbers, and those of FHIR
(hl7.org/fhirpath/N1, section 5; hl7.org/fhir/R4/fhirpath.html#functions).

Every pattern of matches() and replaceMatches() runs in RE2, which takes linear time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import re2

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.fhirpath import Env
from fhir_gateway.fhir.fhirpath_operators import distinct, number, string, union
from fhir_gateway.fhir.fhirpath_values import (
    FALSE,
    NOTHING,
    TRUE,
    Item,
    Items,
    Trouble,
    all_children,
    boolean,
    children,
    key_of,
    number_of,
    single,
    text_of,
    truth,
)
from fhir_gateway.fhir.profile_binding import codings_of
from fhir_gateway.fhir.profile_context import Place, passes
from fhir_gateway.fhir.profile_targets import target_of
from fhir_gateway.fhir.profile_tree import BASE, is_base

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True


@lru_cache(maxsize=512)
def pattern(text: str) -> Any:
    """A regular expression. Raises Trouble for what RE2 does not read, such as lookaround."""
    try:
        return re2.compile(text, _OPTIONS)
    except re2.error:
        raise Trouble("its regular expression is not one of RE2") from None


def descendants(env: Env, items: Items) -> Items:
    """All elements below, level by level."""
    found: list[Item] = []
    level = list(items)
    while level:
        below = [inner for item in level for inner in all_children(item)]
        env.spend(len(below))
        found += below
        level = below
    return found


def _children(env: Env, items: Items) -> Items:
    found = [inner for item in items for inner in all_children(item)]
    env.spend(len(found))
    return found


def _integer(items: Items) -> int:
    value = number_of(items)
    if value is None or value != int(value):
        raise Trouble("a whole number is wanted")
    return int(value)


def _all_are(wanted: bool) -> Callable[[Env, Items], Items]:
    return lambda env, items: boolean(all(truth((item,)) is wanted for item in items))


def _any_is(wanted: bool) -> Callable[[Env, Items], Items]:
    return lambda env, items: boolean(any(truth((item,)) is wanted for item in items))


def _subset(items: Items, others: Items) -> Items:
    keys = {key_of(item) for item in others}
    return boolean(all(key_of(item) in keys for item in items))


def _intersect(env: Env, items: Items, others: Items) -> Items:
    keys = {key_of(item) for item in others}
    return distinct(env, [item for item in items if key_of(item) in keys])


def _exclude(env: Env, items: Items, others: Items) -> Items:
    keys = {key_of(item) for item in others}
    return [item for item in items if key_of(item) not in keys]


def _not(env: Env, items: Items) -> Items:
    value = truth(items)
    return boolean(None if value is None else not value)


def _on_text(work: Callable[..., Items]) -> Callable[..., Items]:
    """A function of one text, which gives nothing where there is none."""

    def call(env: Env, items: Items, *arguments: Items) -> Items:
        text = text_of(items)
        if text is None:
            return NOTHING
        given = [single(one) for one in arguments]
        if any(one is None for one in given):
            return NOTHING
        return work(text, *[one[1] for one in given if one is not None])

    return call


def _matches(text: str, wanted: Any) -> Items:
    return boolean(pattern(str(wanted)).search(text) is not None)


def _replace_matches(text: str, wanted: Any, other: Any) -> Items:
    replacement = str(other).replace("\\", "\\\\").replace("$", "\\")
    try:
        return string(pattern(str(wanted)).sub(replacement, text))
    except re2.error:
        raise Trouble("the replacement of its regular expression is not understood") from None


def _substring(text: str, start: Any, length: Any = None) -> Items:
    if not isinstance(start, int) or not 0 <= start < len(text):
        return NOTHING
    return string(text[start:] if length is None else text[start : start + max(int(length), 0)])


def _replace(text: str, wanted: Any, other: Any) -> Items:
    found = text.replace(str(wanted), str(other)) if wanted else text
    if len(found) > 1_000_000:
        raise Trouble("replace() makes too long a text")
    return string(found)


def _to_string(env: Env, items: Items) -> Items:
    one = single(items)
    if one is None or one[1] is None or isinstance(one[1], dict | list):
        return NOTHING
    return string(str(one[1]).lower() if isinstance(one[1], bool) else str(one[1]))


def _to_integer(env: Env, items: Items) -> Items:
    one = single(items)
    if one is None or one[1] is None:
        return NOTHING
    value = one[1]
    if isinstance(value, bool | int):
        return number(int(value))
    text = str(value)
    digits = text[1:] if text[:1] in "+-" else text
    return number(int(text)) if digits.isdecimal() and len(digits) < 19 else NOTHING


def _to_decimal(env: Env, items: Items) -> Items:
    one = single(items)
    try:
        value = None if one is None or len(str(one[1])) > 40 else Decimal(str(one[1]))
    except InvalidOperation:
        return NOTHING
    return NOTHING if value is None or not value.is_finite() else (("decimal", value, None),)


def _absolute(env: Env, items: Items) -> Items:
    value = number_of(items)
    return NOTHING if value is None else number(-value if value < 0 else value)


def _has_value(env: Env, items: Items) -> Items:
    return boolean(
        len(items) == 1 and items[0][1] is not None and not isinstance(items[0][1], dict)
    )


def _get_value(env: Env, items: Items) -> Items:
    return items if _has_value(env, items) is TRUE else NOTHING


def _extension(env: Env, items: Items, url: Items) -> Items:
    wanted = text_of(url)
    return [
        inner
        for item in items
        for inner in children(item, "extension")
        if isinstance(inner[1], dict) and inner[1].get("url") == wanted
    ]


def _resolve(env: Env, items: Items) -> Items:
    found: list[Item] = []
    for _, value, _ in items:
        target = target_of(env.run, value)
        if target is not None:
            found.append((str(target.get("resourceType")), target, None))
    return found


def _member_of(env: Env, items: Items, value_set: Items) -> Items:
    one, canonical = single(items), text_of(value_set)
    codings = codings_of(one[1], one[0]) if one is not None and canonical else None
    if not codings or canonical is None:
        return NOTHING
    answers = [env.run.context.member(canonical, system, code) for system, code in codings]
    return TRUE if True in answers else NOTHING if None in answers else FALSE


def _conforms_to(env: Env, items: Items, url: Items) -> Items:
    one, canonical = single(items), text_of(url)
    if one is None or canonical is None:
        return NOTHING
    if is_base(canonical):
        return boolean(definitions().is_a(one[0], canonical.partition("|")[0].removeprefix(BASE)))
    profile = env.known.profile(canonical)
    if profile is None:
        raise Trouble("the profile that conformsTo() names is not known here")
    return boolean(passes(env.run, profile.judge, one[1], one[2], Place(None, one[0], -1, one[0])))


def _html(env: Env, items: Items) -> Items:
    """The walker has judged every narrative."""
    return TRUE if items else NOTHING


def _clock(type: str, form: str) -> Callable[[Env, Items], Items]:
    def call(env: Env, items: Items) -> Items:
        now = _EPOCH + timedelta(microseconds=env.run.now)
        return ((type, now.strftime(form), None),) if env.run.now else NOTHING

    return call


#: Function: least and most arguments, what does it.
CALLS: dict[str, tuple[int, int, Callable[..., Items]]] = {
    "empty": (0, 0, lambda env, items: boolean(not items)),
    "not": (0, 0, _not),
    "count": (0, 0, lambda env, items: number(len(items))),
    "allTrue": (0, 0, _all_are(True)),
    "allFalse": (0, 0, _all_are(False)),
    "anyTrue": (0, 0, _any_is(True)),
    "anyFalse": (0, 0, _any_is(False)),
    "distinct": (0, 0, distinct),
    "isDistinct": (0, 0, lambda env, items: boolean(len(distinct(env, items)) == len(items))),
    "subsetOf": (1, 1, lambda env, items, others: _subset(items, others)),
    "supersetOf": (1, 1, lambda env, items, others: _subset(others, items)),
    "single": (0, 0, lambda env, items: items if single(items) is not None else NOTHING),
    "first": (0, 0, lambda env, items: items[:1]),
    "last": (0, 0, lambda env, items: items[-1:]),
    "tail": (0, 0, lambda env, items: items[1:]),
    "skip": (1, 1, lambda env, items, by: items[max(_integer(by), 0) :]),
    "take": (1, 1, lambda env, items, by: items[: max(_integer(by), 0)]),
    "intersect": (1, 1, _intersect),
    "exclude": (1, 1, _exclude),
    "union": (1, 1, union),
    "combine": (1, 1, lambda env, items, others: (*items, *others)),
    "children": (0, 0, _children),
    "descendants": (0, 0, descendants),
    "startsWith": (1, 1, _on_text(lambda text, part: boolean(text.startswith(str(part))))),
    "endsWith": (1, 1, _on_text(lambda text, part: boolean(text.endswith(str(part))))),
    "contains": (1, 1, _on_text(lambda text, part: boolean(str(part) in text))),
    "indexOf": (1, 1, _on_text(lambda text, part: number(text.find(str(part))))),
    "matches": (1, 1, _on_text(_matches)),
    "replaceMatches": (2, 2, _on_text(_replace_matches)),
    "replace": (2, 2, _on_text(_replace)),
    "substring": (1, 2, _on_text(_substring)),
    "length": (0, 0, _on_text(lambda text: number(len(text)))),
    "upper": (0, 0, _on_text(lambda text: string(text.upper()))),
    "lower": (0, 0, _on_text(lambda text: string(text.lower()))),
    "trim": (0, 0, _on_text(lambda text: string(text.strip()))),
    "toChars": (0, 0, _on_text(lambda text: [("string", one, None) for one in text[:10_000]])),
    "toString": (0, 0, _to_string),
    "toInteger": (0, 0, _to_integer),
    "toDecimal": (0, 0, _to_decimal),
    "convertsToInteger": (0, 0, lambda env, items: boolean(bool(_to_integer(env, items)))),
    "convertsToDecimal": (0, 0, lambda env, items: boolean(bool(_to_decimal(env, items)))),
    "abs": (0, 0, _absolute),
    "hasValue": (0, 0, _has_value),
    "getValue": (0, 0, _get_value),
    "extension": (1, 1, _extension),
    "resolve": (0, 0, _resolve),
    "memberOf": (1, 1, _member_of),
    "conformsTo": (1, 1, _conforms_to),
    "htmlChecks": (0, 0, _html),
    "today": (0, 0, _clock("date", "%Y-%m-%d")),
    "now": (0, 0, _clock("dateTime", "%Y-%m-%dT%H:%M:%SZ")),
}
