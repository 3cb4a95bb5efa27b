"""The largest files and functions of the source, so that growth is seen. Prints, never fails."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
SHOWN = 5


def main() -> None:
    """Print the list."""
    files: list[tuple[int, str]] = []
    functions: list[tuple[int, str]] = []
    for path in SOURCE.rglob("*.py"):
        text = path.read_text("utf-8")
        name = str(path.relative_to(SOURCE))
        files.append((text.count("\n"), name))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                functions.append((length, f"{name}:{node.lineno} {node.name}"))
    print(f"{sum(size for size, _ in files)} lines in {len(files)} files")
    for title, rows in (("files", files), ("functions", functions)):
        print(
            f"largest {title}: "
            + " · ".join(f"{name} {size}" for size, name in sorted(rows)[: -SHOWN - 1 : -1])
        )


if __name__ == "__main__":
    main()
