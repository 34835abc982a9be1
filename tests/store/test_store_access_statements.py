"""Every text of the store that reads a person's rows has the rule of the Access in it, or stands on
a list that says why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import fhir_gateway.store

FOLDER = Path(fhir_gateway.store.__file__).parent
_TABLES = "resource|version|journal|fact|result_of|px|px_text|gx|gx_text|identity"
READS = re.compile(rf"\b(?:FROM|JOIN)\s+(?:{_TABLES})\b")
#: What puts the rule into the text of a function, and its place in a text by itself.
RULE = re.compile(r"\.of\(|\.both\(|\.sourced\(|\.sees\(|\bterms\(|\bsee\(|\bsees\(")
PLACE = re.compile(r"\{(?:r|v|f|l|j|x|seen|report)\}")

#: Modules that answer no caller: they judge or make what is written, or move whole stores.
WRITING = {
    "backfill": "fills a new column of a whole store",
    "log": "numbers and hashes the journal; hands out leaves, which are hashes",
    "log_sql": "the same",
    "postgres_batch": "the journal's way into the index",
    "claim_sql": "what claims are judged by, under the write lock",
    "postgres_claims": "what claims are judged by, under the write lock",
    "postgres_held": "what is derived again, under the write lock",
    "postgres_rows": "takes away what is superseded",
    "postgres_wanted": "what a batch asks for; guards name whose rows count",
    "purge_sql": "what the time of keeping has ended for",
    "statements": "the writer's; guards name whose rows count",
}

#: Texts that find places only: what stands there is read by another text, which has the rule.
PLACES = {
    ("apart_sql", "_COUNTS"): "a part of APART",
    ("history_sql", "_OF_ONE"): "versions that `_versions` judges",
    ("history_sql", "_SUPERSEDING"): "when a version ended, of one that is judged",
    ("history_sql", "journal_number"): "a resource number to begin at",
    ("history_times", "_NEXT"): "the time of a batch",
    ("listing_sql", "having"): "whether to look at all, told to nobody",
    ("narrow_sql", "passes"): "one term more about a row that is judged",
    ("person_sql", "_APART"): "a doubt about the person's own records, told by all of them",
    ("person_sql", "_CONTESTED"): "a doubt about the person's own records, told by all of them",
    ("person_sql", "_DOCUMENTED"): "whether some record bears a document, and no more",
    ("postgres_sql", "_KEY"): "the key of a resource that is judged",
    ("record_sql", "holds"): "whether to look at all, told to nobody",
    ("scan_sql", "_in_pieces"): "how many rows the next statement visits",
    ("scan_sql", "_of_patients"): "names that `_read_named` judges",
    ("search_drive", "all_of_type"): "where a search begins",
    ("search_drive", "_keys_lead"): "where a search begins",
    ("search_includes", "_each"): "a join that `_pointing` judges",
    ("search_near", "one_by_one"): "matches that were judged",
    ("search_near", "rids_of"): "index rows of homes, whose resources are judged",
    ("search_terms", "chain_rids"): "index rows, joined with what is judged",
    ("search_terms", "_far"): "index rows, joined with what is judged",
    ("visible", "JOURNAL_BODY"): "the body of an entry that is judged",
}

#: Texts about commits and whole stores: which rows may be told is decided before they are asked.
ASKED = {
    ("origin_sql", "made_steps"): "the hash of a version that was read under the rule, and that"
    " the institution owns (message_trace.origin)",
    ("origin_sql", "_superseded"): "the same, of a version that was superseded",
    ("origin_sql", "written_steps"): "names of what the commit of the institution's own message"
    " stored (message_trace.trace)",
    ("row_id_sql", "ids_of"): "ids behind a proposal that was sealed for this very caller"
    " (scheduling.proposal)",
    ("seat_around_sql", "_statement"): "what a booking is planned by; parties are let in by"
    " scheduling.booking_parties",
    ("replay_sql", "version_steps"): "the operator's, who holds both stores of a replay",
    ("replay_sql", "fact_steps"): "the operator's, who holds both stores of a replay",
}


def texts_of(node):
    """The texts in a piece of code; of one that is put together, its parts in their places."""
    inside = {id(part) for one in ast.walk(node) if isinstance(one, ast.JoinedStr)
              for part in one.values}  # fmt: skip
    for one in ast.walk(node):
        if isinstance(one, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
                for part in one.values
            )
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in inside:
            yield one.value


def pieces(tree):
    """(name, node) of every function, method and constant."""
    for node in tree.body:
        for one in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                yield one.name, one
            elif isinstance(one, ast.Assign | ast.AnnAssign):
                target = one.targets[0] if isinstance(one, ast.Assign) else one.target
                yield ast.unparse(target), one


def without_rule():
    """(module, name) of what reads rows and has no rule."""
    for path in sorted(FOLDER.glob("*.py")):
        source = path.read_text("utf-8")
        for name, node in pieces(ast.parse(source)):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            told = ast.get_docstring(node, clean=False) if is_function else None
            reading = [text for text in texts_of(node) if text != told and READS.search(text)]
            if not reading:
                continue
            if is_function:
                judged = RULE.search(ast.get_source_segment(source, node) or "")
            else:
                judged = all(PLACE.search(text) for text in reading)
            if not judged:
                yield path.stem, name


def test_every_statement_that_reads_rows_has_the_rule_or_a_reason():
    found = set(without_rule())
    unexplained = {one for one in found if one[0] not in WRITING} - {*PLACES, *ASKED}
    assert unexplained == set()
    assert {*PLACES, *ASKED} <= found, "the list names what is there no more"
    assert set(WRITING) <= {module for module, _ in found}


def test_the_search_for_statements_finds_them():
    tree = ast.parse('_A = f"SELECT 1 FROM resource r WHERE {x} AND {{r}}"\n')
    ((_, node),) = pieces(tree)
    assert list(texts_of(node)) == ["SELECT 1 FROM resource r WHERE {x} AND {r}"]
