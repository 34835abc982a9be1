"""Text from data as a card may show it: never markup, never a trick, never too long.

GitHub Flavored Markdown 6.1; CDS Hooks 2.0, "Card Attributes": a summary has under 140 characters.
"""

from __future__ import annotations

import re
from functools import lru_cache

SUMMARY_LIMIT = 139

#: What GitHub Flavored Markdown could take for markup inside a line, and what begins an autolink
#: (6.9): `www.`, `scheme:` and `@`.
_MARKUP = re.compile(
    r"[\\`*_\[\]<>#|~&!@$]|(?<=www)\.|(?<=http):|(?<=https):|(?<=ftp):|(?<=mailto):|(?<=xmpp):",
    re.IGNORECASE,
)
_REFERENCES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


@lru_cache(maxsize=8_192)
def escape(text: str) -> str:
    """Text that Markdown shows as it is: no sign of it can become markup, HTML or a link."""
    return _MARKUP.sub(_escaped, plain(text))


def _escaped(match: re.Match[str]) -> str:
    return _REFERENCES.get(match[0]) or f"\\{match[0]}"


#: Control and format characters, line and paragraph separators, private use, surrogates.
_ODD = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\uf8ff"
    "\ufeff\ufff9-\uffff\U000e0000-\U0010ffff]"
)


def plain(text: str) -> str:
    """One line without control, format and private characters (no bidirectional tricks)."""
    if _ODD.search(text) is None:
        return text
    return " ".join(_ODD.sub(_blank, text).split())


def _blank(match: re.Match[str]) -> str:
    """What separates words becomes a space, what is invisible goes."""
    return " " if match[0] <= "\x9f" or match[0] in "\u2028\u2029" else ""


def shorten(text: str, limit: int = SUMMARY_LIMIT) -> str:
    """Plain text of at most `limit` characters."""
    text = plain(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
