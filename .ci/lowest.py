"""Print the lowest version of everything that pyproject.toml declares, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
declared = [*project["dependencies"], *(one for extra in ("test", "demo", "plot", "bulk") for one in extras[extra])]
for name, version in (match.groups() for one in declared if (match := re.fullmatch(r"([\w-]+)>=([\d.]+)", one))):
    print(f"{name}=={version}")
