"""Rules of style that neither ruff nor mypy checks: public functions carry type hints, no message says "1 pictures"."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.name for path in ROOT.glob("*.py"))
PUBLIC_SPECIAL = {"__init__", "__call__"}


def public_functions(tree):
    """(name, node) of the public functions of a module and the public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                is_function = isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
                if is_function and (item.name in PUBLIC_SPECIAL or not item.name.startswith("_")):
                    yield f"{node.name}.{item.name}", item


def missing_hints(source):
    """What public functions leave without a type: 'load(model)' for an argument, 'load ->' for the result."""
    missing = []
    for name, node in public_functions(ast.parse(source)):
        spread = [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
        arguments = [*node.args.posonlyargs, *node.args.args]
        decorators = {getattr(decorator, "id", None) for decorator in node.decorator_list}
        if "." in name and "staticmethod" not in decorators:
            arguments = arguments[1:]  # self or cls
        for argument in (*arguments, *node.args.kwonlyargs, *spread):
            if argument.annotation is None:
                missing.append(f"{name}({argument.arg})")
        if node.returns is None:
            missing.append(f"{name} ->")
    return missing


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_carry_type_hints(name):
    assert missing_hints((ROOT / name).read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("def f(a: int, *, b: str = '') -> None: ...", []),
        ("def f(a, /, b, *c, d, **e): ...", ["f(a)", "f(b)", "f(d)", "f(c)", "f(e)", "f ->"]),
        ("async def f() -> int: ...", []),
        ("def _f(a): ...", []),
        ("def f() -> int:\n    def g(a): ...", []),
        ("class A:\n    def f(self, a): ...", ["A.f(a)", "A.f ->"]),
        ("class A:\n    def __init__(self, a) -> None: ...", ["A.__init__(a)"]),
        ("class A:\n    @staticmethod\n    def f(a) -> int: ...", ["A.f(a)"]),
        ("class A:\n    @classmethod\n    def f(cls) -> int: ...", []),
        ("class A:\n    def _f(self, a): ...\n    def __len__(self): ...", []),
        ("class _A:\n    def f(self, a): ...", []),
    ],
)
def test_a_missing_hint_is_seen(source, missing):
    assert missing_hints(source) == missing


COUNTED = "anchors|boxes|classes|detections|epochs|files|frames|images|objects|packages|pictures|samples|steps"
# Without messages of programs, or with counts of many
UNCHECKED = ("tests", "benchmarks", "formats", "dataset_check", "conversion")


def unbent_counts(source):
    """The nouns that follow a value in a message in their plural, whatever the value is: `{count} pictures`."""
    texts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)]
    pairs = [pair for text in texts for pair in zip(text.values, text.values[1:], strict=False)]
    after = [right.value for left, right in pairs if isinstance(right, ast.Constant)]
    return [match[1] for text in after if (match := re.match(rf" ({COUNTED})\b(?!/s)", text))]


@pytest.mark.parametrize(
    "path", [*ROOT.glob("*.py"), *(p for p in ROOT.glob("*/*.py") if p.parent.name not in UNCHECKED)], ids=str
)
def test_counts_bend_their_nouns(path):
    assert unbent_counts(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("message", "nouns"),
    [('f"{n} pictures"', ["pictures"]), ('f"{n:,} classes, {m} steps"', ["classes", "steps"]), ('f"{n} picture"', [])],
)
def test_a_count_in_the_plural_is_seen(message, nouns):
    assert unbent_counts(f"print({message})") == nouns
