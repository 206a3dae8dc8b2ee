"""The package is a one-way street: a module imports only modules listed before it; third parties stay in fences."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ORDER = """
    errors _registry _types interrupt running writing memory spec weights surveys datasets readers data resolve frame
    links families simulate likelihood variance pooling fitting prediction inference resampling results sample studies
    descriptives tables plots reports api groups planning cli
""".split()
INNER = {  # files of the rooms that have a road of their own
    "likelihood": """
        paths layout rows smooth covariances constraint contract jets elimination graph standardise
        ops.registry ops.fills ops.cells ops.smallmat ops.segment ops.special
        device engine
        crossed.onethread
        linear.recursion linear.rowproducts linear.crossproducts linear.values linear.nested linear.flat linear.modes
        linear.unprofiled
        general.modefinder general.nodes latent._base latent.normal latent.t latent.discrete general.tree general.model
        crossed.jointblock crossed.lineargraph crossed.unprofiled crossed.generalmodel crossed.generalgraph
        general.bynode general.marginal general.inside general.partials
        linear.start linear.direct linear.moments linear.objective linear.residualobjective linear.pairs linear.pairwise
        linear.correlations linear.dense linear.residuals linear.stacks linear.structured
        linear.latentmeans linear.latentobjective linear.corrected
        linear.pairproducts linear.severalnested linear.onelevel linear.outcomes
        general.start general.flat general.tiles general.rowsums general.direct general.compiled
        general.singlerows general.single general.singlehessian general.singlechunks general.objective
        general.partitioned general.mixture
        general.insidedata
        crossed.inverse crossed.units crossed.products crossed.gram crossed.stagedpoint crossed.joint
        crossed.direct crossed.between crossed.intercepts crossed.laplace crossed.general crossed.linear
        crossed.secondorder
    """.split(),
    "fitting": """
        problem collinear carried optimise quasinewton rawscale estimate fixedvariances strata clusterrows
        judge workingrows fewclusters leftout severalfits ladder
        effort streamed linear latent corrected outcomes general choose secondorder elsewhere climb
        reweightedoutcomes reweighted refits
    """.split(),
    "pooling": "_base rubin nested ratios".split(),
    "results": """
        later as_json varcorr record rendering summary words parts account archive checked specs unpackplan
        unpack store hypotheses wald hints glance result pooled build asked
    """.split(),
    "cli": "arguments output reading fitting describing files demo completion command __main__".split(),
    "sample": """
        request refusal account guard keep
        model.explicit model.target model.priors model.coordinates model.model model.density model.start
        nuts.convergence nuts.meeting nuts.nuts nuts.othersamplers
        draws.conditional_rows draws.conditional_linear draws.conditional_general draws.quantities draws.correction
        draws.randomeffects draws.rowdraws draws.datatree
        posterior record draws.pointwise draws.predictive draws.responses result bayes load
    """.split(),
}
ROOT = Path(__file__).parents[1] / "pmwmix"
GUIDE = ROOT.parent / "docs" / "contributing.md"
FENCES = {  # rooms, and single files of rooms that mix
    "pytensor": {
        *("links", "families", "likelihood.graph", "likelihood.engine", "likelihood.ops"),
        "likelihood.general.partials",
        *("likelihood.linear.nested", "likelihood.linear.unprofiled", "likelihood.general.model"),
        *("likelihood.general.tree", "likelihood.general.bynode", "likelihood.general.marginal"),
        *("likelihood.general.inside", "likelihood.crossed.jointblock", "likelihood.crossed.lineargraph"),
        "likelihood.crossed.unprofiled",
        *("likelihood.crossed.generalmodel", "likelihood.crossed.generalgraph", "sample.model"),
        *("sample.nuts.othersamplers", "sample.draws.conditional_rows", "sample.draws.datatree"),
    },
    "jax": {
        *("likelihood.engine", "likelihood.device", "likelihood.ops"),
        *("likelihood.general.bynode", "likelihood.general.inside"),
        *("sample.model.density", "sample.nuts"),
    },
    "pymc": {"sample.model", "sample.nuts.othersamplers", "sample.draws.datatree", "sample.draws.pointwise"},
    "nutpie": {"sample.nuts"},
    "arviz": {"sample", "plots"},
    "arviz_plots": {"plots"},
    "arviz_base": {"sample", "plots"},
    "arviz_stats": {"sample", "plots"},
    "xarray": {"sample", "plots"},
    "matplotlib": {"plots"},
    "formulaic": {"spec.terms", "spec.whitelist", "frame.matrices", "prediction.newdata", "results.specs"},
    "pandas": {
        *(
            "surveys._table",
            "datasets",
            "readers",
            "data",
            "resolve",
            "simulate",
            "prediction.newdata",
            "prediction.responses",
        ),
        "prediction.groupmeans",
        *(
            "frame.build",
            "frame.buildstreamed",
            "frame.kinds",
            "frame.census",
            "frame.streamed",
            "frame.streamedreplicates",
            "frame.centring",
            "frame.clusters",
            "frame.coded",
            "frame.columns",
            "frame.ondisk",
            "frame.complete",
            "frame.evaluate",
            "frame.latentmeans",
            "frame.measured",
        ),
        "frame.ondisk",
        *("frame.hierarchy", "frame.levelweights", "frame.matrices", "frame.residual"),
        "frame.partweights",
        *(
            "inference.components",
            "inference.correlations",
            "inference.icc",
            "inference.margins",
            "inference.missing",
            "inference.piecewise",
            "inference.r2",
            "inference.residualtable",
            "inference.samples",
            "inference.intervals",
            "resampling.asfit",
            "resampling.bootstrap",
            "resampling.generated",
            "resampling.outcomes",
            "results",
        ),
        *("sample", "studies", "descriptives", "tables", "plots", "reports", "groups", "planning", "cli.describing"),
    },
    "narwhals": {"data.table"},
    "maketables": {"tables"},
    "openpyxl": {"tables"},
    "docx": {"reports"},
    "rich": {"results.rendering", "cli", "running"},
    "pyreadstat": {"readers.foreign"},
    "pyreadr": {"readers.rdata"},
}


def stage(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def place(path: Path) -> str:
    """Give the room and file, dotted: ``"frame.matrices"``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


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


def test_files_of_a_room_import_backwards():
    for room, order in INNER.items():
        files = {place(path).partition(".")[2] for path in (ROOT / room).rglob("*.py") if path.name != "__init__.py"}
        assert files == set(order), f"{room}: {sorted(files ^ set(order))}"
        for file in order:
            for name in imported(ROOT / room / f"{file.replace('.', '/')}.py"):
                parts = name.removeprefix(f"pmwmix.{room}.").split(".")
                used = next((u for k in (2, 1) if (u := ".".join(parts[:k])) in files), None)
                if name.startswith(f"pmwmix.{room}.") and used:
                    assert order.index(used) <= order.index(file), f"{room}.{file} imports {used}, which comes later"


def layout() -> str:
    """Give the table of rooms for ``docs/contributing.md``: in their order, each in the words of its own first line."""
    out = ["| Room | What lives there |", "|---|---|"]
    for name in ORDER:
        is_room = (ROOT / name).is_dir()
        words = ast.get_docstring(
            ast.parse((ROOT / name / "__init__.py" if is_room else ROOT / f"{name}.py").read_text())
        )
        out.append(f"| `{name}{'/' if is_room else ''}` | {words.splitlines()[0].replace('``', '`')} |")
    return "\n".join(out)


def test_the_layout_of_the_contributors_guide_is_that_of_the_rooms():
    there = GUIDE.read_text(encoding="utf-8")
    assert layout() in there, "write the table again: .venv/bin/python tests/test_architecture.py"


def named_families(path: Path):
    """Yield every comparison of a family with the name of one: ``family == "binomial"``, ``fit.family in (...)``."""
    from pmwmix.families import FAMILIES

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            sides = [node.subject, *node.cases]
        else:
            continue
        inside = [part for side in sides for part in ast.walk(side)]
        asked = any("family" in str(getattr(part, "attr", getattr(part, "id", ""))) for part in inside)
        names = {part.value for part in inside if isinstance(part, ast.Constant) and part.value in set(FAMILIES)}
        if asked and names:
            yield f"{place(path)}, line {node.lineno}: {ast.unparse(node)}"


def test_no_family_is_asked_for_its_name():
    """What depends on the family is a member of it: a new one is a new file, and nothing else changes."""
    rooms = [path for path in ROOT.rglob("*.py") if stage(path) != "families"]
    found = [line for path in rooms for line in named_families(path)]
    assert not found, "\n".join(found)


def test_a_question_for_a_name_is_found(tmp_path, monkeypatch):
    asked = 'fit.family == "beta"\nfamily in ("poisson", "x")\n(a.family, a.link) != ("gaussian", "identity")\n'
    (tmp_path / "file.py").write_text(asked + 'name == "beta"\nfamily == other\n')
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(list(named_families(tmp_path / "file.py"))) == 3


def test_third_parties_stay_in_their_fences():
    for path in ROOT.rglob("*.py"):
        here = place(path)
        for name in imported(path):
            package = name.split(".")[0]
            allowed = FENCES.get(package, {here})
            assert any(here == room or here.startswith(f"{room}.") for room in allowed), (
                f"{here} must not import {package}"
            )


def test_import_is_light():
    """``import pmwmix`` loads none of the heavy packages."""
    code = (
        "import sys, pmwmix;"
        "heavy = {'pymc', 'arviz', 'matplotlib', 'jax', 'pytensor', 'pandas', 'formulaic', 'pyreadstat'};"
        "found = heavy & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def bodies():
    """Yield every function's length without its docstring, and where it stands."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    yield body[-1].end_lineno - body[0].lineno + 1, f"{place(path)}.{node.name}"


def test_files_and_functions_stay_readable(capsys):
    """No file of the package is longer than 400 lines, no function's body longer than 40."""
    files = sorted((len(path.read_text(encoding="utf-8").splitlines()), place(path)) for path in ROOT.rglob("*.py"))
    longest = sorted(bodies())
    with capsys.disabled():
        print(f"\nlongest file {files[-1]}, longest body {longest[-1]}, in lines")
    assert files[-1][0] <= 400, files[-3:]
    assert longest[-1][0] <= 40, [one for one in longest if one[0] > 40]


def test_no_room_reaches_into_the_private_parts_of_another():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pmwmix."):
                other = node.module.split(".")[1]
                private = [a.name for a in node.names if a.name.startswith("_") and not a.name.startswith("__")]
                assert other == stage(path) or not private, f"{place(path)} imports {private} from {node.module}"


def test_kinds_are_asked_of_the_contract():
    """No module tells likelihoods, estimates or results apart by their class, or live rows from saved ones by a member.

    Rubin's factor stands in the room for pooling alone.
    """
    patterns = [r"isinstance\([^)]*(General|Crossed|Integrated|Objective)", r"\bis_linear\(", r"hasattr\([^)]*rows"]
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found = [pattern for pattern in patterns if re.search(pattern, text)]
        assert not found, f"{place(path)}: {found}"
        assert stage(path) == "pooling" or not re.search(r"1(?:\.0)? \+ 1(?:\.0)? / (?:K|self\.n_pv)\b", text), place(
            path
        )


if __name__ == "__main__":
    before, _, rest = GUIDE.read_text(encoding="utf-8").partition("| Room | What lives there |\n")
    _, gap, after = rest.partition("\n\n")
    GUIDE.write_text(before + layout() + gap + after, encoding="utf-8")
