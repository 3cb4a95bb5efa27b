"""Imports point one way, and the pure layers touch no clock, chance or I/O."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "keywheel"
# Each layer may import itself and what stands in earlier lines.
LAYERS = (
    ("errors", "secret", "addresses"),
    ("core",),
    ("wire",),
    ("keys", "config", "stores"),
    ("lines",),
    ("wires",),
    ("catalog", "environment"),
    ("keeper", "books", "grouping", "trail"),
    ("flow",),
    ("engine",),
    ("problems", "hints", "axle", "awaiting"),
    ("listing",),
    ("errand",),
    ("bodies",),
    ("transports",),
    ("legacy", "answers"),
    ("fittings",),
    ("client",),
    ("wheel",),
    ("gateway",),
    ("testing",),
    ("pytest_plugin",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
BANNED = {
    "time",
    "random",
    "asyncio",
    "threading",
    "socket",
    "ssl",
    "os",
    "secrets",
    "httpx2",
    "logging",
}
PURE = ("core", "wire")
WIRE_MAY_USE_OF_CORE = {"keywheel.core.types", "keywheel.core.rows", "keywheel.core.tokens"}
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module named in an import, lazy ones and those for type checkers included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= names if module in ("keywheel", "keywheel.core") else {module}
    return found


def layer(path: Path) -> str:
    """The layer a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    own = layer(path)
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "keywheel" or own == "__init__":
            continue
        target = parts[1] if len(parts) > 1 else ""
        if own == "sim":
            assert target == "sim", f"{path} imports {module}: the simulator knows nothing of us"
        elif target == "sim":
            assert own in ("cli", "testing"), f"{path} imports the simulator"
        elif target in LEVEL:
            assert LEVEL[target] < LEVEL[own] or target == own, f"{path} imports {module}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if layer(p) in PURE], ids=lambda p: str(p.relative_to(SOURCE))
)
def test_pure_layers_touch_no_clock_chance_or_io(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & BANNED


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) == "wire"], ids=lambda p: p.name)
def test_wire_uses_only_the_words_of_core(path: Path) -> None:
    used = {module for module in imports(path) if module.startswith("keywheel.core")}
    assert used <= WIRE_MAY_USE_OF_CORE
