"""The JSON shape of a CDS Hooks 2.0 response ("CDS Service Response"), checked member by member."""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_URL = re.compile(r"https?://[^\s]+")


def assert_response(document: Any) -> None:
    """`cards`, and no system actions."""
    assert set(document) == {"cards"}
    uuids: list[str] = []
    for card in document["cards"]:
        _card(card)
        uuids += [card["uuid"]] if "uuid" in card else []
        uuids += [one["uuid"] for one in card.get("suggestions", ())]
    assert len(uuids) == len(set(uuids))
    assert all(_UUID.fullmatch(one) for one in uuids)


def _card(card: Json) -> None:
    _members(
        card,
        {"summary": str, "indicator": str, "source": dict},
        {
            "uuid": str, "detail": str, "suggestions": list, "selectionBehavior": str,
            "overrideReasons": list, "links": list,
        },
    )  # fmt: skip
    assert len(card["summary"]) < 140 and "\n" not in card["summary"]
    assert card["indicator"] == "info"
    _members(card["source"], {"label": str}, {"url": str, "icon": str, "topic": dict})
    assert ("selectionBehavior" in card) == ("suggestions" in card)
    assert card.get("selectionBehavior", "any") in ("any", "at-most-one")
    for suggestion in card.get("suggestions", ()):
        _members(suggestion, {"label": str, "uuid": str, "actions": list}, {"isRecommended": bool})
        for action in suggestion["actions"]:
            _action(action)
    for reason in card.get("overrideReasons", ()):
        _members(reason, {"code": str, "system": str, "display": str}, {})
    for link in card.get("links", ()):
        _members(link, {"label": str, "url": str, "type": str}, {})
        assert link["type"] == "absolute" and _URL.fullmatch(link["url"])


def _action(action: Json) -> None:
    optional = {"resource": dict, "resourceId": str}
    _members(action, {"type": str, "description": str}, optional)
    if action["type"] == "delete":
        assert re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9\-.]{1,64}", action["resourceId"])
        assert "resource" not in action
    else:
        assert action["type"] in ("create", "update")
        assert action["resource"]["resourceType"]
        assert ("id" in action["resource"]) == (action["type"] == "update")


def _members(value: Any, required: dict[str, type], optional: dict[str, type]) -> None:
    """All required members, no unknown ones, each of its type and not empty, as JSON says."""
    assert isinstance(value, dict)
    assert required.keys() <= value.keys() <= required.keys() | optional.keys(), value.keys()
    for name, kind in {**optional, **required}.items():
        if name in value:
            assert isinstance(value[name], kind), name
            assert value[name], name
