"""The atoms of UCUM (ucum.org/ucum), from the essence file that ucumvert carries unchanged.

ucumvert's reader of that file is loaded alone: the package itself would load pint too, which the
gateway converts nothing with.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from fhir_gateway.errors import Internal


def essence() -> Any:
    """ucumvert's module that has read the essence file. Raises Internal when it is missing."""
    package = find_spec("ucumvert")
    if package is None or not package.submodule_search_locations:
        raise Internal("The definitions of UCUM are missing: install ucumvert")
    file = Path(package.submodule_search_locations[0]) / "xml_util.py"
    spec = spec_from_file_location("_ucum_essence", file)
    if spec is None or spec.loader is None:
        raise Internal("The definitions of UCUM cannot be read: install ucumvert anew")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
