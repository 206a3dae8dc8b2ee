r"""Formulas: $...$ and $$...$$ become MathML while the site is built, so that pages need no script and no network.

``\tag{7}`` becomes the number beside the equation and its anchor, ``#eq-7``. The font is STIX Two Math (SIL Open Font
License), cut down to the characters in use.
"""

import html as escaping
import re
import unicodedata
from importlib.util import find_spec
from pathlib import Path

from fontTools import subset
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

CODE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)$|`+[^`\n]+`+)", flags=re.M | re.S)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", flags=re.S)
INLINE = re.compile(r"(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])")
TAG = re.compile(r"\\tag\{(\w+)\}")
FUNCTION = re.compile(r"(</mo>)?<m[io][^>]*>(log|exp|det|max|min|tr|diag|Pr)</m[io]>(?=(<mo[^>]*>(?:&#x00028;|det))?)")
SCRIPT = re.compile(r'<mi mathvariant="script">(\w)</mi>')
PLACE = "\ue000{}\ue001"  # stands for a formula while Markdown is parsed, which would read _ and * in it
_formulas: dict[str, list[str]] = {}
_characters: set[str] = set()


def mathml(source: str, display: str) -> str:
    """Give the MathML of a formula, with the spacing of TeX and without what browsers do not know."""
    out = convert(source.strip(), display=display)
    out = re.sub(r">\\([{}])<", r">\1<", out)  # a brace after \Big comes with its backslash
    if re.search(r">[^<]*\\[^<]*<", out):
        raise PluginError(f"There is no MathML for the formula {source!r}: {out}")
    out = out.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")  # \sim is a relation
    out = FUNCTION.sub(_spaced, out)
    out = SCRIPT.sub(lambda match: f"<mi>{_script(match[1])}</mi>", out)
    _characters.update(escaping.unescape(re.sub(r"<[^>]*>", "", out)))
    if "<msqrt" in out or "<mroot" in out:
        _characters.add("√")  # browsers draw the root with it, though no text has it
    return out


def _spaced(match: re.Match) -> str:
    before, after = ("0" if neighbour else "0.167em" for neighbour in (match[1], match[3]))
    return f'{match[1] or ""}<mo lspace="{before}" rspace="{after}" movablelimits="true">{match[2]}</mo>'


def _script(letter: str) -> str:
    for prefix in ("MATHEMATICAL SCRIPT CAPITAL", "SCRIPT CAPITAL"):
        try:
            return unicodedata.lookup(f"{prefix} {letter}")
        except KeyError:
            continue
    raise PluginError(f"There is no script letter {letter!r}.")


def display(source: str) -> str:
    """Give the HTML of a formula on its own line."""
    tag = TAG.search(source)
    body = mathml(TAG.sub("", source), "block")
    number = f'<span class="number">({tag[1]})</span>' if tag else ""
    anchor = f' id="eq-{tag[1]}"' if tag else ""
    return f'<span class="equation"{anchor}>{body}{number}</span>'


def on_page_markdown(markdown, page, config, files):
    """Put a mark in the place of every formula outside code."""
    made = _formulas[page.file.src_uri] = []

    def keep(html: str) -> str:
        made.append(html)
        return PLACE.format(len(made) - 1)

    parts = CODE.split(markdown)
    for number in range(0, len(parts), 2):
        part = DISPLAY.sub(lambda match: keep(display(match[1])), parts[number])
        parts[number] = INLINE.sub(lambda match: keep(mathml(match[1], "inline")), part)
    return "".join(parts)


def on_page_content(html, page, config, files):
    """Put the formulas back."""
    made = _formulas.pop(page.file.src_uri, [])
    return re.sub(PLACE.format(r"(\d+)"), lambda match: made[int(match[1])], html)


def on_post_build(config):
    """Write the font with the characters in use; browsers turn letters into italic ones by themselves."""
    italic = {*range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C), 0x210E}
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
    package = Path(find_spec("ziamath").origin).parent  # its file is wanted, not its code
    font = subset.load_font(str(package / "fonts" / "STIXTwoMath-Regular.ttf"), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes={*map(ord, _characters), *range(0x20, 0x7F), *italic})
    cut.subset(font)
    subset.save_font(font, str(Path(config.site_dir) / "css" / "mathematics.woff"), options)
    font.close()
