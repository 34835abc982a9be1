"""The readings of Chinese characters, from pypinyin's table; one for search and for value sets."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from fhir_gateway.errors import Internal


@lru_cache(maxsize=1)
def pinyin_table() -> dict[str, str]:
    """Readings parted by commas, by the number of the character; made once a process.

    The file alone: the package would load its phrases too. Raises Internal without the package.
    """
    spec = find_spec("pypinyin")
    if spec is None or not spec.submodule_search_locations:
        raise Internal("The table of pinyin readings is missing: install pypinyin")
    file = Path(spec.submodule_search_locations[0]) / "pinyin_dict.json"
    table: dict[str, str] = json.loads(file.read_bytes())
    return table
