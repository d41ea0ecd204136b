"""Draws docs/architecture.md's picture from the imports in the sources: python docs/draw_architecture.py.

The picture is Mermaid text between two marker lines of the page. tests/test_docs.py fails where the page
does not have what this command draws. `modules`, `imported` and `module_of` also serve
tests/test_layering.py, which checks the same imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- Drawn by docs/draw_architecture.py from here ... -->"
END = "<!-- ... to here. -->"

Graph = dict[str, set[str]]
"""What each node points at."""


def modules(*packages: str) -> dict[str, Path]:
    """Return the source file of every module, by its dotted name; a package is its __init__."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> set[str]:
    """Return every name that a file imports, wherever in it, also under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, expected none"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_of(name: str, known: dict[str, Path]) -> str | None:
    """Return the known module that an imported name is, or is in; None where it is none of ours."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def room_of(module: str) -> str:
    """Return the part of the house that a module is in: a room of cluster, or a whole other package."""
    package, *below = module.split(".")
    return below[0] if package == "cluster" and below else package


def file_of(module: str) -> str:
    """Return the name of a file of cluster/fusing as the picture shows it: `plan`, `steps/read`."""
    return "/".join(module.split(".")[2:])


def import_graph() -> Graph:
    """Return which module imports which, packages without code of their own left out."""
    known = modules("jobs", "cluster", "dmnet_core")
    graph: Graph = {}
    for name, path in known.items():
        others = {module_of(other, known) for other in imported(path)}
        graph[name] = {other for other in others if other is not None and other != name}
    return graph


def rooms(graph: Graph) -> Graph:
    """Return which room imports which."""
    drawn: Graph = {}
    for module, others in graph.items():
        if module != "cluster":
            to = {room_of(other) for other in others}
            drawn.setdefault(room_of(module), set()).update(to - {room_of(module)})
    return drawn


def fusing_files(graph: Graph) -> Graph:
    """Return which file of cluster/fusing imports which other file of it."""
    inside = {name for name in graph if name.startswith("cluster.fusing.")} - {"cluster.fusing.steps"}
    return {file_of(name): {file_of(other) for other in graph[name] & inside} for name in inside}


def without_detours(graph: Graph) -> Graph:
    """Return a graph without the arrows between nodes that a longer way of arrows connects too."""

    def reached(node: str) -> set[str]:
        return graph[node].union(*(reached(other) for other in graph[node]))

    return {
        node: others - set().union(*(reached(other) for other in others))
        for node, others in graph.items()
    }


def mermaid(graph: Graph, direction: str) -> Iterator[str]:
    """Yield the lines of a flowchart in Mermaid."""
    yield "```mermaid"
    yield f"flowchart {direction}"
    for node in sorted(graph):
        yield f'    {_key(node)}["{node}"]'
    for node in sorted(graph):
        for other in sorted(graph[node]):
            yield f"    {_key(node)} --> {_key(other)}"
    yield "```"


def draw() -> str:
    """Return the text between the markers."""
    graph = import_graph()
    return "\n".join(
        [
            BEGIN,
            "",
            "The rooms of `cluster`, between `jobs` and `dmnet_core`:",
            "",
            *mermaid(without_detours(rooms(graph)), "TD"),
            "",
            "The files of the room `cluster/fusing`:",
            "",
            *mermaid(without_detours(fusing_files(graph)), "LR"),
            "",
            END,
        ]
    )


def redrawn(page: str) -> str:
    """Return the text of the page with the picture as the sources are now."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the line {BEGIN!r} or {END!r}, expected both: put them back")
    return before + draw() + after


def _key(node: str) -> str:
    return node.replace("/", "_")


def main() -> int:
    """Write the page; return 0."""
    PAGE.write_text(redrawn(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
