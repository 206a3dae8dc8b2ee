"""Lists of the reference that the package itself holds: plots, and methods that live in files of their own.

``<!-- plots -->`` stands for a directive per public file of pmwmix/plots;
``<!-- methods: pmwmix.results.result.FitResult -->`` for one per method that the class takes from another module, as in
``predict = predict``.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"^<!-- (plots|methods: ([\w.]+)) -->$", flags=re.M)


def plots() -> dict[str, str]:
    """How to read every plot: the text below the summary in its docstring, by the name of its function and file."""
    found = {}
    for path in sorted((ROOT / "pmwmix" / "plots").glob("[!_]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == path.stem:
                text = (ast.get_docstring(node) or "").partition("\n\n")[2]
                found[node.name] = re.split(r"^\w+\n---+$", text, maxsplit=1, flags=re.M)[0].strip()
    return found


def methods(module: str, name: str) -> dict[str, str]:
    """Where the methods of a class live that it takes from other modules, by their names in the class."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name).body
    found = {}
    for node in body:
        if isinstance(node, ast.Assign):
            left, right = (getattr(side, "elts", [side]) for side in (node.targets[0], node.value))
            for method, value in zip(left, right, strict=False):
                if isinstance(value, ast.Name) and value.id in homes and not method.id.startswith("_"):
                    found[method.id] = homes[value.id]
    return found


def directive(path: str, heading: str, level: int) -> str:
    """Give the directive of one function."""
    return f"::: {path}\n    options: {{heading: {heading}, heading_level: {level}}}"


def on_page_markdown(markdown, page, config, files):
    """Put directives in the place of the marks."""

    def listed(match: re.Match) -> str:
        if match[1] == "plots":
            return "\n\n".join(directive(f"pmwmix.plots.{name}.{name}", f"pmwmix.plots.{name}", 2) for name in plots())
        module, _, name = match[2].rpartition(".")
        return "\n\n".join(directive(path, f"{name}.{short}", 3) for short, path in methods(module, name).items())

    return MARK.sub(listed, markdown)
