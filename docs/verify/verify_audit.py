"""Checks what a FHIR gateway's audit log gave you, without the gateway and without its code.

    python verify_audit.py log EXPORT.jsonl [--key KEY] [--witness FILE]
    python verify_audit.py proof PROOF.json [--key KEY]

EXPORT.jsonl comes from `fhir-gateway audit export`, PROOF.json from `fhir-gateway audit prove`, KEY
is the public key that the log began with (NAME+HASH+BASE64), FILE a witness's heads. Needs Python
3.10 or later and the package cryptography. RFC 9162 2.1; c2sp.org/signed-note, /tlog-checkpoint,
/tlog-cosignature. Exit code: 0 all holds, 1 something does not, 2 the file is none.

Written from the description in docs/transparency.md and from the RFC, in another way than the
gateway: a fault in one of them is no fault in the other.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LONGEST_LINE = 64_000_000
LONGEST_PATH = 130
STATEMENT = "fhir-gateway audit log statement"
WORDS = ["origin", "number", "kind", "tree", "time", "key", "lost", "reason"]


class Wrong(Exception):
    """Something is not as it was signed."""


# -- the tree, by the definitions of RFC 9162 2.1 --------------------------------------------------


def digest(data):
    """SHA-256."""
    return hashlib.sha256(data).digest()


def parent(left, right):
    """The hash of a node over two others."""
    return digest(b"\x01" + left + right)


def cut(size):
    """The largest power of two below `size`."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


class Tree:
    """All whole subtrees over a list of leaf hashes, level by level."""

    def __init__(self, leaves):
        self.levels = [list(leaves)]
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            pairs = range(0, len(below) - 1, 2)
            self.levels.append([parent(below[at], below[at + 1]) for at in pairs])

    def root(self, size):
        """MTH over the first `size` leaves; None when there are not so many."""
        if size == 0:
            return digest(b"")
        if size > len(self.levels[0]):
            return None
        found, done = None, size
        for level, hashes in enumerate(self.levels):
            if size >> level & 1:
                done -= 1 << level
                whole = hashes[done >> level]
                found = whole if found is None else parent(whole, found)
        return found


def root_by_inclusion(leaf, index, size, path):
    """The root that an inclusion proof leads to (PATH of 2.1.3.1); None when it is no proof."""
    if not 0 <= index < size or len(path) > LONGEST_PATH:
        return None
    turns = []
    while size > 1:
        left = cut(size)
        turns.append(index >= left)
        index, size = (index - left, size - left) if index >= left else (index, left)
    if len(turns) != len(path):
        return None
    found = leaf
    for right, other in zip(reversed(turns), path, strict=True):
        found = parent(other, found) if right else parent(found, other)
    return found


def roots_by_consistency(first, size, first_root, path):
    """Both roots that a consistency proof leads to (SUBPROOF of 2.1.4.1); None for no proof."""
    if not 0 < first <= size or len(path) > LONGEST_PATH:
        return None
    turns, whole = [], True
    while first != size:
        left = cut(size)
        turns.append(first > left)
        if first > left:
            first, size, whole = first - left, size - left, False
        else:
            size = left
    path = list(path)
    if not whole and not path:
        return None
    old = new = first_root if whole else path.pop(0)
    if len(turns) != len(path):
        return None
    for right, other in zip(reversed(turns), path, strict=True):
        old, new = (parent(other, old), parent(other, new)) if right else (old, parent(new, other))
    return old, new


def included(leaf, index, size, path, root):
    """Whether the proof shows that the leaf is in the tree with this root."""
    return root_by_inclusion(leaf, index, size, path) == root


def extends(first, first_root, size, root, path):
    """Whether the proof shows that the later tree begins with the earlier one."""
    if first == 0 and size >= 0:
        return not path and first_root == digest(b"")
    return roots_by_consistency(first, size, first_root, path) == (first_root, root)


# -- signed notes ----------------------------------------------------------------------------------


def unbase64(text):
    """The bytes; raises Wrong unless the text is the one spelling of them."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        raise Wrong("a text is no base64") from None
    if base64.b64encode(value).decode() != text:
        raise Wrong("base64 that is spelled otherwise than it would be written")
    return value


class Key:
    """A public key NAME+HASH+BASE64."""

    def __init__(self, text):
        parts = text.strip().split("+", 2)
        if len(parts) != 3:
            raise Wrong("a key is written NAME+HASH+BASE64")
        raw = unbase64(parts[2])
        self.text, self.name = text.strip(), parts[0]
        if len(raw) != 33 or raw[0] != 1 or self.id(1, raw[1:]).hex() != parts[1]:
            raise Wrong("the key does not fit its hash")
        self.raw = raw[1:]

    def id(self, kind, raw=None):
        """The four bytes that name the key's signatures of a kind."""
        raw = self.raw if raw is None else raw
        return digest(self.name.encode() + b"\n" + bytes([kind]) + raw)[:4]

    def verify(self, value, message):
        """Whether the signature of a message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(value, message)
        except InvalidSignature:
            return False
        return True

    def signed(self, note):
        """Whether the note is signed, and the times with which it is."""
        text, signatures = note
        plain, times = False, []
        for name, value in signatures:
            if name != self.name:
                continue
            if value[:4] == self.id(1) and len(value) == 68:
                plain = plain or self.verify(value[4:], text.encode())
            elif value[:4] == self.id(4) and len(value) == 76:
                time = int.from_bytes(value[4:12], "big")
                if self.verify(value[12:], f"cosignature/v1\ntime {time}\n{text}".encode()):
                    times.append(time)
        return plain, times


def read_note(text):
    """(text, [(name, bytes)]); raises Wrong."""
    at = text.rfind("\n\n")
    if at < 0 or not text.endswith("\n") or len(text) > 65_536:
        raise Wrong("a note without signatures")
    signatures = []
    for line in text[at + 2 : -1].split("\n"):
        words = line.split(" ")
        if len(words) != 3 or words[0] != "\u2014":
            raise Wrong("a line of a note is no signature")
        signatures.append((words[1], unbase64(words[2])))
    return text[: at + 1], signatures


def read_head(text):
    """(origin, size, root) of a checkpoint; raises Wrong."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[1].isdigit() or str(int(lines[1])) != lines[1]:
        raise Wrong("a checkpoint that is none")
    return lines[0], int(lines[1]), unbase64(lines[2])


def read_tree(text):
    """(size, root) of a statement's line."""
    size, _, root = text.partition(" ")
    if not size.isdigit():
        raise Wrong("a statement's tree that is none")
    return int(size), unbase64(root)


def read_chain(texts, trusted=None):
    """The statements of a log, each signed by the key before it and its own; raises Wrong."""
    chain = []
    for text in texts:
        note = read_note(text)
        lines = note[0].split("\n")
        said = dict(line.partition(" ")[::2] for line in lines[1:-1])
        if lines[0] != STATEMENT or list(said) != WORDS or len(lines) != len(WORDS) + 2:
            raise Wrong("a statement that is none")
        said["key"], said["tree"] = Key(said["key"]), read_tree(said["tree"])
        check_next(chain[-1] if chain else None, said, note)
        chain.append(said)
    if not chain:
        raise Wrong("a log without its first statement")
    if trusted is not None and chain[0]["key"].text != trusted.text:
        raise Wrong("the log did not begin with the key that you trust")
    return chain


def check_next(before, said, note):
    """Raises Wrong unless a statement may follow the one before it."""
    first = before is None
    if (said["kind"] == "begin") != first or said["kind"] not in ("begin", "key", "recovery"):
        raise Wrong("a statement of a kind that may not stand there")
    if said["number"] != str(1 if first else int(before["number"]) + 1):
        raise Wrong("a statement is missing")
    if not first and said["tree"][0] < before["tree"][0]:
        raise Wrong("a statement goes back")
    if (said["kind"] == "recovery") != (not first and said["origin"] != before["origin"]):
        raise Wrong("the origin changes without a recovery")
    if not first and said["kind"] == "recovery" and said["key"].text != before["key"].text:
        raise Wrong("a recovery changes the key")
    for key in [said["key"]] if first else [said["key"], before["key"]]:
        if not key.signed(note)[0]:
            raise Wrong(f"a signature of {key.name} is missing on a statement")


def statement_for(chain, size):
    """The statement by which a head of that size is signed; raises Wrong."""
    before = [said for said in chain if said["tree"][0] < size]
    if not before:
        raise Wrong("a head before the first statement")
    return before[-1]


def check_head(chain, text):
    """(size, root, time) of a head that is signed as it must be; raises Wrong."""
    note = read_note(text)
    origin, size, root = read_head(note[0])
    said = statement_for(chain, size)
    plain, times = said["key"].signed(note)
    if origin != said["origin"] or not plain or len(times) != 1:
        raise Wrong(f"head {size} is not signed by the log's key")
    return size, root, times[0]


# -- entries ---------------------------------------------------------------------------------------


def leaf_of(entry):
    """The leaf hash of an entry as it was exported; raises Wrong when its record was changed."""
    commitment, nonce = unbase64(entry["commitment"]), unbase64(entry["nonce"])
    tail = entry["tail"]
    if tail is not None and digest(b"\x00" + nonce + tail.encode()) != commitment:
        raise Wrong(f"record {entry['id']}: it does not give its commitment")
    id = entry["id"].encode()
    numbers = [*entry["place"], entry["type"], entry["home"], entry["updated"], entry["owner"]]
    line = " ".join(str(int(number)) for number in [*numbers, len(id)]).encode() + b" " + id
    if entry["patient"] is not None:
        line += b" " + entry["patient"].encode()
    return digest(b"\x00" + line + b"\n" + commitment)


# -- whole files -----------------------------------------------------------------------------------


def lines_of(path):
    """The objects of a file of JSON lines; raises Wrong."""
    with open(path, encoding="utf-8", newline="\n") as file:
        while line := file.readline(LONGEST_LINE):
            try:
                yield json.loads(line)
            except ValueError:
                raise Wrong("a line of the file is no JSON, or is too long") from None


def check_log(path, trusted=None, witness=""):
    """Checks an exported log; what it says of itself, as a dict. Raises Wrong."""
    statements, heads, leaves, gone, last = [], [], [], 0, None
    lines = lines_of(path)
    begin = next(lines, {})
    if begin.get("format") != "fhir-gateway-audit-log/1":
        raise Wrong("the file is no exported audit log")
    for line in lines:
        if "statement" in line:
            statements.append(line["statement"])
        elif "head" in line:
            heads.append(line["head"])
        elif "entry" in line:
            entry = line["entry"]
            if line["index"] != len(leaves) or (last is not None and entry["place"] <= last):
                raise Wrong(f"record {entry['id']}: it stands out of order")
            last = entry["place"]
            gone += entry["tail"] is None
            leaves.append(leaf_of(entry))
    if len(leaves) != begin["size"]:
        raise Wrong(f"{begin['size']} records are promised, {len(leaves)} are there")
    chain = read_chain([each["note"] for each in statements], trusted)
    tree = Tree(leaves)
    check_heads(chain, tree, heads, len(leaves))
    kept = check_witness(chain, tree, witness)
    return {"records": len(leaves), "removed": gone, "heads": len(heads), "witnessed": kept,
            "statements": [f"{said['kind']}: {said['reason']}" for said in chain]}  # fmt: skip


def check_heads(chain, tree, heads, size):
    """Checks all heads and statements against the tree; raises Wrong."""
    before = (0, 0)
    for head in heads:
        found, root, time = check_head(chain, head["note"])
        if found != head["size"] or tree.root(found) != root:
            raise Wrong(f"head {found}: the records do not give its root")
        if (found, time) < before or time < before[1]:
            raise Wrong(f"head {found}: it stands out of order")
        before = (found, time)
        if head["beat"]:
            body = read_note(head["note"])[0]
            later = statement_for(chain, found)["key"].signed(read_note(f"{body}\n{head['beat']}"))
            if len(later[1]) != 1 or later[1][0] < time:
                raise Wrong(f"head {found}: its later signature is not the log's")
            before = (found, later[1][0])
    if before[0] != size:
        raise Wrong("the newest head does not cover all records")
    for said in chain:
        if tree.root(said["tree"][0]) != said["tree"][1]:
            raise Wrong(f"statement {said['number']}: the records do not give its tree")


def check_witness(chain, tree, path):
    """Checks a witness's heads against the tree; how many there are. Raises Wrong."""
    if not path:
        return 0
    with open(path, encoding="utf-8") as file:
        text = file.read()
    notes, lines = [], []
    for line in text.split("\n"):
        if lines and lines[-1].startswith("\u2014 ") and not line.startswith("\u2014 "):
            notes.append("\n".join(lines) + "\n")
            lines = []
            continue
        lines.append(line)
    for note in notes:
        origin, size, root = read_head(read_note(note)[0])
        keys = [said["key"] for said in chain]
        if not any(key.signed(read_note(note))[0] for key in keys):
            raise Wrong(f"witnessed head {size}: it is not signed by this log")
        if origin != statement_for(chain, size)["origin"] or tree.root(size) != root:
            raise Wrong(f"witnessed head {size}: the log does not hold it any more")
    return len(notes)


def check_proof(told, trusted=None):
    """Checks one record with its proof; (index, size, time). Raises Wrong."""
    if told.get("format") != "fhir-gateway-audit-proof/1":
        raise Wrong("the file is no proof")
    chain = read_chain(told["statements"], trusted)
    size, root, time = check_head(chain, told["checkpoint"])
    path = [unbase64(each) for each in told["path"]]
    if any(len(each) != 32 for each in path):
        raise Wrong("the proof's hashes are none")
    if not included(leaf_of(told["entry"]), told["index"], size, path, root):
        raise Wrong(f"record {told['entry']['id']}: the proof does not lead to the head")
    return told["index"], size, time


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["log", "proof"])
    parser.add_argument("file")
    parser.add_argument("--key", help="the public key that the log began with")
    parser.add_argument("--witness", default="", help="a witness's file of heads")
    given = parser.parse_args(arguments)
    try:
        trusted = Key(given.key) if given.key else None
        if given.what == "log":
            said = json.dumps(check_log(given.file, trusted, given.witness), ensure_ascii=False)
        else:
            index, size, time = check_proof(next(lines_of(given.file), {}), trusted)
            said = f"record {index} of {size} in the head that was signed at {time} (seconds)"
    except Wrong as wrong:
        sys.stdout.write(f"DOES NOT HOLD: {wrong}\n")
        return 1
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        sys.stdout.write(f"cannot be read: {error.__class__.__name__}: {error}\n")
        return 2
    sys.stdout.write(f"{said}\nholds\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
