"""What every gateway of the tests begins with, made once for each test process.

Most tests open a gateway on an empty database with the shipped tables. Those are read once here,
and what they sow comes from a template: what each would have written itself. A gateway with
tables, a policy, a zone or a clock of its own reads and sows as an operator's does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from fhir_gateway import app
from fhir_gateway.security import policy
from fhir_gateway.settings import Settings

_SHIPPED = Settings()
#: What is sown, and the rows of it, come of these settings and of no other.
_OWN = ("profiles", "terminology", "mappings", "zone")


def is_usual(chosen: Mapping[str, Any]) -> bool:
    """Whether a gateway with these settings begins as most do."""
    usual = {name: getattr(_SHIPPED, name) for name in _OWN}
    usual["policy"] = str(policy.default_path())
    return all(chosen.get(name, said) == said for name, said in usual.items())


async def sow(url: str) -> None:
    """Opens a gateway on a database and closes it."""
    gateway = await app.open_gateway(Settings(database=url))
    await gateway.store.close()


def begin(path: Path, run: Callable[[Any], Any]) -> None:
    """Puts a sown store where there is none; `run` gives the result of a coroutine."""
    if not path.exists() and path.parent.is_dir():
        template = _folder() / "sown.sqlite"
        if not template.exists():
            run(sow(f"sqlite:///{template}"))
        shutil.copyfile(template, path)


@cache
def _folder() -> Path:
    return Path(mkdtemp(prefix="sown-"))


def remove() -> None:
    """Removes the template; the next one who needs it makes it anew."""
    if _folder.cache_info().currsize:
        shutil.rmtree(_folder())
        _folder.cache_clear()


def read_once() -> None:
    """Has the shipped tables read once for all gateways of this process."""
    for name in ("load_vocabulary", "load_concept_maps", "load_naming"):
        setattr(app, name, _kept(getattr(app, name)))


def _kept(load: Callable[..., Any]) -> Callable[..., Any]:
    """What a loader makes of a folder that is shipped, and of what was kept itself."""
    made: dict[Any, Any] = {}

    def kept(folder: Path | str, *rest: Any) -> Any:
        if not any(Path(getattr(_SHIPPED, name)) in (Path(folder), Path(folder).parent)
                   for name in _OWN[:3]):  # fmt: skip
            return load(folder, *rest)
        key = (str(folder), *map(id, rest))
        if key not in made:
            made[key] = load(folder, *rest), rest  # whatever an id names lives on with it
        return made[key][0]

    return kept
