"""What is shown of a narrative runs nothing, whatever somebody wrote (faults.md 67)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.fhir.narrative import TAGS, plain, sanitised
from fhir_gateway.fhir.primitives import checker
from fhir_gateway.fhir.xhtml import canonical_text, unsafe
from fhir_gateway.fhir.xml_parse import parse_xml

SPACE = 'xmlns="http://www.w3.org/1999/xhtml"'

#: Payloads that have run somewhere: handlers, addresses, styles, foreign content, mutations.
PAYLOADS = [
    "<script>pwn()</script>",
    "<ScRiPt>pwn()</sCrIpT>",
    "<script/x>pwn()</script>",
    "<scr<script>ipt>pwn()</script>",
    '<img src="x" onerror="pwn()"/>',
    "<img src=x onerror=pwn()>",
    '<img src="x" ONERROR ="pwn()"/>',
    '<img/src="x"/onerror="pwn()"/>',
    '<p onclick="pwn()" onmouseover="pwn()">x</p>',
    '<a href="javascript:pwn()">x</a>',
    '<a href=" javascript:pwn()">x</a>',
    '<a href="\tjava\nscript:pwn()">x</a>',
    '<a href="java&#10;script:pwn()">x</a>',
    '<a href="java&Tab;script&colon;pwn()">x</a>',
    '<a href="&#x6A;avascript:pwn()">x</a>',
    '<a href="\x01javascript:pwn()">x</a>',
    '<a href="JaVaScRiPt:pwn()">x</a>',
    '<a href="vbscript:pwn()">x</a>',
    '<a href="data:text/html,<script>pwn()</script>">x</a>',
    '<a href="data:text/html;base64,PHNjcmlwdD5wd24oKTwvc2NyaXB0Pg==">x</a>',
    '<img src="data:image/svg+xml,<svg onload=pwn()>"/>',
    '<a href="x" xml:base="javascript:pwn()//">x</a>',
    '<svg onload="pwn()"/>',
    '<svg><script>pwn()</script></svg>',
    '<svg><animate onbegin="pwn()" attributeName="x" dur="1s"/></svg>',
    '<svg><a xlink:href="javascript:pwn()"><text>x</text></a></svg>',
    "<math><mtext><table><mglyph><style><!--</style>"
    '<img title="--&gt;&lt;img src=1 onerror=pwn()&gt;">',
    '<math><mi//xlink:href="data:x,<script>pwn()</script>">',
    '<noscript><p title="</noscript><img src=x onerror=pwn()>"></p></noscript>',
    '<style>@import "javascript:pwn()"; p { background: url(javascript:pwn()) }</style>',
    '<p style="background:url(javascript:pwn())">x</p>',
    '<p style="width:expression(pwn())">x</p>',
    '<p style="behavior:url(#x)">x</p>',
    '<p style="-moz-binding:url(//x)">x</p>',
    '<p style="b\\61 ckground:u\\72l(//x.example)">x</p>',
    '<p style="position:fixed;top:0;left:0;width:100%;height:100%">x</p>',
    '<form action="javascript:pwn()"><button>x</button></form>',
    '<button formaction="javascript:pwn()">x</button>',
    '<iframe src="javascript:pwn()"></iframe>',
    '<iframe srcdoc="&lt;script&gt;pwn()&lt;/script&gt;"></iframe>',
    '<object data="javascript:pwn()"></object>',
    '<embed src="javascript:pwn()"/>',
    '<base href="javascript:pwn()//"/>',
    '<meta http-equiv="refresh" content="0;url=javascript:pwn()"/>',
    '<link rel="stylesheet" href="javascript:pwn()"/>',
    '<template><script>pwn()</script></template>',
    '<details open="" ontoggle="pwn()">x</details>',
    '<video><source onerror="pwn()"/></video>',
    '<xmp><p title="</xmp><img src=x onerror=pwn()>"></xmp>',
    '<plaintext><img src=x onerror=pwn()>',
    '<textarea></textarea><img src=x onerror=pwn()>',
    '<![CDATA[<img src=x onerror=pwn()>]]>',
    "<!--><img src=x onerror=pwn()>-->",
    "<!-- --!><img src=x onerror=pwn()> -->",
    "<?xml-stylesheet href='javascript:pwn()'?>",
    '<p xmlns:h="http://www.w3.org/1999/xhtml"><h:script>pwn()</h:script></p>',
    "</div><script>pwn()</script><div>",
    '<table><tr><td></table><img src=x onerror=pwn()>',
    '<a title="&quot;&gt;&lt;img src=x onerror=pwn()&gt;">x</a>',
    "<p id=\"x' onmouseover='pwn()\">x</p>",
]  # fmt: skip


class Seen(HTMLParser):
    """What a reader of HTML finds: tags, attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)


_STYLE = re.compile(r"url\(|expression|binding|behavior|@import|\\")


def runs(text: str) -> list[str]:
    """What in a text could run or fetch something, as a reader of HTML sees it."""
    seen = Seen(text)
    wrong = sorted(seen.tags - TAGS)
    for name, value in seen.attributes:
        packed = re.sub(r"[\s\x00-\x20]+", "", value).lower()
        if name.startswith("on") or name in ("srcdoc", "formaction", "xml:base", "xlink:href"):
            wrong.append(name)
        if packed.startswith(("javascript:", "vbscript:")):
            wrong.append(f"{name}={packed[:20]}")
        if packed.startswith("data:") and not packed.startswith("data:image/png"):
            wrong.append(f"{name}={packed[:20]}")
        if name == "style" and _STYLE.search(packed):
            wrong.append(f"style={packed[:20]}")
    return wrong


@pytest.mark.parametrize("payload", PAYLOADS)
def test_067_nothing_runs_in_what_is_shown(payload: str) -> None:
    for whole in (f"<div {SPACE}>a{payload}b</div>", payload, f"<div>{payload}"):
        assert runs(sanitised(whole)) == []
        shown = canonical_text(whole)
        assert runs(shown) == []
        assert list(unsafe(parse_xml(shown.encode()))) == []


@pytest.mark.parametrize("payload", PAYLOADS)
def test_067_the_door_takes_none_that_would_run_as_it_stands(payload: str) -> None:
    """What the rule of JSON lets in (txt-1) shows nothing that runs, read as it was sent."""
    whole = f"<div {SPACE}>a{payload}b</div>"
    if checker("xhtml")(whole):
        assert runs(whole) == []


def test_067_the_door_names_the_rule(client) -> None:
    body = {"resourceType": "Patient", "text": {"status": "additional", "div": ""}}
    for payload in PAYLOADS[:6]:
        body["text"]["div"] = f"<div {SPACE}>{payload}</div>"
        answer = client.post("/fhir/Patient", body)
        assert answer.status_code == 422
        (issue,) = answer.json()["issue"]
        assert issue["expression"] == ["Patient.text.div"]
        assert "pwn" not in answer.text


@pytest.mark.parametrize(
    "text",
    [
        "<p>x</p>",
        '<p class="a" style="color: #fff; width: 10%">x</p>',
        '<table border="1" summary="s"><tbody><tr><td colspan="2">1</td></tr></tbody></table>',
        '<a href="https://example.org/x?y=1&amp;z=2">x</a><a href="#b" name="b">y</a>',
        '<a href="Patient/1">x</a>',
        '<img src="data:image/png;base64,AA==" alt="x"/>',
        "a<br/>b<hr/>甲\u00a0乙 &amp; &lt;x&gt;",
        "<ul><li>1</li></ul><blockquote>q</blockquote><h3>h</h3>",
    ],
)
def test_what_a_narrative_may_hold_stays(text: str) -> None:
    assert sanitised(f"<div>{text}</div>") == f"<div>{text}</div>"


def test_a_style_may_not_lay_itself_over_the_page() -> None:
    for style in ("position:fixed;top:0", "z-index: 9", "color: red; POSITION : absolute"):
        assert sanitised(f'<div><p style="{style}">x</p></div>') == "<div><p>x</p></div>"


def test_words_stay_where_markup_goes() -> None:
    assert sanitised("<div><blink>x</blink> <b>y</b><script>z</script></div>") == (
        "<div>x <b>y</b></div>"
    )
    assert plain("<p>a<b>b</b></p><script>c</script><x").split() == ["a", "b"]
    assert sanitised("a") == "<div>a</div>"
    assert sanitised("<div>a</div><div>b</div>") == "<div><div>a</div><div>b</div></div>"


def test_a_narrative_that_is_too_deep_or_too_crowded_is_shown_as_its_words() -> None:
    for whole in (
        "<div>" + "<b>" * 50_000 + "word" + "</b>" * 50_000 + "</div>",
        "<div><p " + " ".join(f'a{n}="x"' for n in range(50_000)) + ">word</p></div>",
        "<div>" + "<b>" * 50_000 + "word",
    ):
        # with a slope it would take hours
        assert "".join(canonical_text(whole).split()).endswith(">word</div>")


PIECES = [*PAYLOADS, "<b>", "</b>", "<p title='", '">', "<!--", "-->", "&lt;", "<td>", "</table>",
          "x", "<div>", "</div>"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=6))
@settings(max_examples=examples(60))
def test_067_payloads_beside_each_other_run_no_more(pieces: list[str]) -> None:
    shown = canonical_text(f"<div {SPACE}>{''.join(pieces)}</div>")
    assert runs(shown) == []
    assert canonical_text(shown) == shown


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.mark.skipif(
    chromium() is None and "CI" not in os.environ, reason="there is no Chromium: make services"
)
def test_067_nothing_runs_in_a_browser(tmp_path: Path) -> None:
    shown = "".join(sanitised(payload) for payload in PAYLOADS)
    assert "<title>PWNED</title>" not in in_chromium(tmp_path, shown)
    assert "<title>PWNED</title>" in in_chromium(tmp_path, "<img src=x onerror=pwn()>"), "as sent"


def in_chromium(folder: Path, body: str) -> str:
    """The document as it is when Chromium has shown this body for a while."""
    page = folder / "page.html"
    head = "<!doctype html><meta charset=utf-8><script>pwn=()=>document.title='PWNED'</script>"
    page.write_text(f"{head}<body>{body}</body>", encoding="utf-8")
    done = subprocess.run(
        [str(chromium()), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={folder}/profile", "--virtual-time-budget=3000", page.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "<body>" in done.stdout
    return done.stdout
