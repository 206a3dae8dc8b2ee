"""The site has a place for everything: pages in the navigation, names in the reference, plots in the gallery."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import pmwmix

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PLOTS = {path.stem for path in (ROOT / "pmwmix" / "plots").glob("[!_]*.py")}
SCRIPTS = sorted((DOCS / "gallery").glob("[!_]*.py"))
REFERENCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.md")))


def hook(name: str) -> ModuleType:
    for needed in ("mkdocs", "latex2mathml", "fontTools", "nbformat"):
        pytest.importorskip(needed)
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def page(uri: str) -> SimpleNamespace:
    return SimpleNamespace(file=SimpleNamespace(src_uri=uri), url=uri.replace(".md", ".html"))


def test_every_page_is_in_the_navigation():
    listed = (ROOT / ".mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(re.findall(r"[\w/-]+\.md", re.sub(r"#.*", "", listed))) == pages | {"readme.md"}


def test_every_public_name_is_in_the_reference():
    def is_there(name: str) -> bool:
        return bool(re.search(rf"^::: pmwmix\.(\w+\.)*{name}$", REFERENCE, flags=re.M))

    modules = {"datasets", "plots", "surveys"}  # on pages of their own, entry by entry
    names = [name for name in pmwmix.__all__ if name not in modules]
    assert [name for name in names if not is_there(name) and not is_there(pmwmix._HOME[name])] == []


def test_every_plot_is_in_the_gallery_and_is_reachable():
    from pmwmix import plots

    drawn = {name for path in SCRIPTS for name in re.findall(r"\bplots\.(\w+)\(", path.read_text(encoding="utf-8"))}
    assert drawn == PLOTS
    assert all(callable(getattr(plots, name)) for name in PLOTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_of_the_gallery_have_their_form(script: Path):
    text = script.read_text(encoding="utf-8")
    section = re.match(r'"""([^:\n]+): \S', text)[1]
    assert f"\n## {section}\n" in (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^# %%", text, flags=re.M)) == 2
    assert re.search(r"^plot = ", text.rpartition("# %%")[2], flags=re.M)


def test_the_example_of_the_first_page_prints_what_stands_below_it(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PMWMIX_ENGINE", "python")  # one small linear model
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    code, shown = (re.search(rf"```{language}\n(.*?)```", text, flags=re.S)[1] for language in ("python", "text"))
    assert len(code.strip().splitlines()) <= 15
    exec(compile(code, "index.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.split()[-len(shown.split()) :] == shown.split()


@pytest.mark.filterwarnings("default")  # of the site's own tools
def test_links_between_files_become_links_between_pages():
    turn = hook("repository").on_page_markdown
    text = (
        "[a](../README.md#a-first-fit) [b](../notebooks/01_first_fit.ipynb) [c](theory.md) [d](../LICENSE) [e](none.md)"
    )
    out = turn(text, page("index.md"), None, None)
    assert out == "[a](readme.md#a-first-fit) [b](notebooks/01_first_fit.md) [c](theory.md) d [e](none.md)"
    assert turn("[docs/theory.md](docs/theory.md)", page("readme.md"), None, None) == "[Theory](theory.md)"
    assert turn("[a](../docs/theory.md)", page("notebooks/x.md"), None, None) == "[a](../theory.md)"


@pytest.mark.filterwarnings("default")
def test_bars_in_the_code_of_tables_lose_their_backslash():
    import markdown

    text = "| R | here |\n|---|---|\n| `(1 \\| g)` | `a \\|\\| b` and \\| |\n\n`\\|`\n"
    out = hook("repository").on_page_markdown(text, page("index.md"), None, None)
    html = markdown.markdown(out, extensions=["tables"])
    assert "<code>(1 | g)</code>" in html and "<code>a || b</code> and |" in html and "<code>\\|</code>" in html
    assert html.count("<td>") == 2


@pytest.mark.filterwarnings("default")
def test_the_font_has_every_sign_that_browsers_draw(tmp_path):
    from fontTools.ttLib import TTFont

    formulas = hook("mathematics")
    for path in sorted(DOCS.glob("*.md")):
        formulas.on_page_markdown(path.read_text(encoding="utf-8"), page(path.name), None, None)
    (tmp_path / "css").mkdir()
    formulas.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    font = TTFont(tmp_path / "css" / "mathematics.woff")
    known = {chr(code) for code in font.getBestCmap()}
    missing = {sign for sign in formulas._characters - known if sign.isprintable() and not sign.isspace()}
    assert "√" in known and not missing
    assert font["MATH"].table.MathVariants.VertGlyphCoverage.glyphs.count(font.getBestCmap()[ord("√")]) == 1  # it grows


@pytest.mark.filterwarnings("default")
def test_defaults_in_the_reference_are_those_of_the_signature():
    griffe = pytest.importorskip("griffe")
    found = griffe.load_extensions(str(DOCS / "hooks" / "defaults.py"))
    room = griffe.load("pmwmix.api", search_paths=[str(ROOT)], extensions=found, docstring_parser="numpy")
    sections = room["fit"].docstring.parsed
    defaults = {one.name: one.default for s in sections if s.kind.value == "parameters" for one in s.value}
    assert (defaults["method"], defaults["vcov"], defaults["engine"]) == ("'ml'", "None", "None")


@pytest.mark.filterwarnings("default")
def test_citations_become_links_to_equations():
    add = hook("repository").on_page_content
    out = add("<p>(theory, eq. 7)</p><pre>theory, eq. 7</pre>", page("api/fitting.md"), None, None)
    assert out == '<p>(theory, eq. <a href="../theory.html#eq-7">7</a>)</p><pre>theory, eq. 7</pre>'


@pytest.mark.filterwarnings("default")
def test_formulas_become_mathml():
    formulas = hook("mathematics")
    where = page("theory.md")
    text = "a $x_1$ and `$x$`\n\n$$ \\mathcal A = \\exp\\Big\\{ \\log y \\Big\\} \\tag{3} $$\n\n```\n$y$ $$\n```\n"
    marked = formulas.on_page_markdown(text, where, None, None)
    assert "`$x$`" in marked and "$y$ $$" in marked and "x_1" not in marked
    out = formulas.on_page_content(marked, where, None, None)
    assert out.count("<math ") == 2
    assert 'id="eq-3"' in out and '<span class="number">(3)</span>' in out
    assert "𝒜" in out and "\\" not in out


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_no_formula_is_left_as_text(path: Path):
    formulas = hook("mathematics")
    marked = formulas.on_page_markdown(path.read_text(encoding="utf-8"), page(path.name), None, None)
    outside_code = "".join(formulas.CODE.split(marked)[::2])
    assert "$" not in re.sub(r"^    .*$", "", outside_code, flags=re.M)


@pytest.mark.filterwarnings("default")
def test_a_notebook_becomes_a_page_with_its_outputs():
    books = hook("notebooks")
    v4 = pytest.importorskip("nbformat").v4
    cell = v4.new_code_cell("f()")
    cell.outputs = [
        v4.new_output("stream", text="\x1b[31mred\x1b[0m\n"),
        v4.new_output("display_data", data={"image/png": "aGVsbG8=", "text/plain": "<Figure>"}),
        v4.new_output("execute_result", data={"text/html": "<style>x</style><table></table>", "text/plain": "table"}),
    ]
    text, pictures = books.as_markdown(v4.new_notebook(cells=[v4.new_markdown_cell("# Title"), cell]), "book")
    assert pictures == {"book_1_1.png": b"hello"}
    assert text.startswith(
        "# Title\n\n```{ .python }\nf()\n```\n\n```{ .text .output }\nred\n```\n\n![Figure](book_1_1.png)"
    )
    html = books.on_page_content(text, page("notebooks/book.md"), None, None)
    assert html.endswith('<div class="output"><table></table></div>')
    bad = v4.new_output("error", ename="ValueError", evalue="no")
    with pytest.raises(RuntimeError, match="ValueError: no"):
        books.shown(bad, "book", {})
