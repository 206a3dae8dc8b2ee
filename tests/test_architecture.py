"""The package is a one-way street: a module imports only modules listed before it; third parties stay in fences."""

import ast
import subprocess
import sys
from pathlib import Path

ORDER = """
    errors _registry guard formula design replicate_types progress executors surveys readers weights scaling parts
    table hierarchy centre outcome matrices
    rows weighing clusters crossing lookup countries surveyunits fillin frame wrongweights
    links families simulate likelihood optimise variance rubin estimate generalproblem generalised replicates
    reweight generalrefits refits kenward profile rejudge predict responses settings tables
    effects components explained averages margins report store
    results poolable assemble reduce lrtest diagnostics informative sample comparison nodecheck
    withingroups plots api
    codebooks groups
    cli __main__
""".split()
ROOT = Path(__file__).parents[1] / "pmwmix"
FENCES = {
    "pytensor": {"links", "families", "likelihood", "sample"},
    "jax": {"likelihood", "sample"},
    "pymc": {"sample"},
    "arviz": {"sample", "plots"},
    "arviz_plots": {"plots"},
    "arviz_base": {"sample", "plots"},
    "arviz_stats": {"sample", "plots"},
    "xarray": {"sample", "plots"},
    "matplotlib": {"plots"},
    "formulaic": {"guard", "formula", "matrices", "predict", "store"},
    "pandas": {
        *("design", "table", "hierarchy", "centre", "matrices", "rows", "weighing", "clusters", "frame", "simulate"),
        *("predict", "responses", "tables", "report", "store", "results", "assemble", "lrtest", "effects"),
        *("surveys", "lookup", "countries", "surveyunits", "fillin", "readers", "parts", "codebooks", "groups"),
        *("margins", "diagnostics", "replicates", "explained", "informative", "kenward", "components", "comparison"),
        "nodecheck",
        *("withingroups", "plots", "sample"),
    },
    "narwhals": {"table"},
    "rich": {"tables", "cli", "progress"},
    "pyreadstat": {"readers"},
}


def stage(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path):
    """Yield every imported name of a file, at any depth, imports for type checking alone left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: use absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_point_backwards():
    for path in ROOT.rglob("*.py"):
        here = stage(path)
        if here == "__init__":
            continue
        stages = {name.split(".")[1] for name in imported(path) if name.startswith("pmwmix.")}
        late = stages - set(ORDER[: ORDER.index(here) + 1])
        assert not late, f"{path} imports a later stage: {sorted(late)}"


def test_third_parties_stay_in_their_fences():
    for path in ROOT.rglob("*.py"):
        for name in imported(path):
            package = name.split(".")[0]
            if package in FENCES:
                assert stage(path) in FENCES[package], f"{path} must not import {package}"


def test_import_is_light():
    """``import pmwmix`` loads none of the heavy packages."""
    code = (
        "import sys, pmwmix;"
        "heavy = {'pymc', 'arviz', 'matplotlib', 'jax', 'pytensor', 'pandas', 'formulaic', 'pyreadstat'};"
        "found = heavy & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_stay_readable():
    """No file of the package is longer than 500 lines."""
    long = {path.name: n for path in ROOT.rglob("*.py") if (n := len(path.read_text().splitlines())) > 500}
    assert not long, long
