"""Someone's Python code, imported by file or by package to get at one object in it; whatever goes wrong is one line."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilenets.auditing.graph.sandbox import REFUSALS, quiet
from mobilenets.errors import AuditError, first_line

ALLOW_RUNNING = "allow it with `run=True` if you trust it, or audit an exported file"
"""What to do where code may not be run, for messages."""
FORMS = "give package.module:Factory, path/file.py:Class, an .onnx or .tflite file, or a run folder"
"""How a target is named, for messages."""


def named_object(text: str) -> Any:
    """What stands behind the colon of `package.module:Name` or `path/file.py:Name`; dots lead further.

    Raises:
        AuditError: there is no such file, package or name, or importing it fails; the message says what to do.
    """
    source, colon, name = text.rpartition(":")
    if not colon or not source or not name:
        raise AuditError(_nothing_named(text))
    module = _from_file(Path(source)) if source.endswith(".py") else _from_package(source)
    found: Any = module
    for part in name.split("."):
        found = _part(source, found, part)
    return found


def _part(source: str, found: Any, part: str) -> Any:
    try:
        return getattr(found, part)
    except AttributeError:
        known = [entry for entry in getattr(found, "__dict__", {}) if not entry.startswith("_")]
        near = difflib.get_close_matches(part, known, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; name a class or function it has"
        raise AuditError(f"{source} has no {part}{hint}") from None
    except REFUSALS as error:
        raise AuditError(f"{source} fails on its {part}: {type(error).__name__}: {first_line(error)}") from error


def _nothing_named(text: str) -> str:
    """What is wrong with a target that names no object behind a colon."""
    path = Path(text.removesuffix(":"))
    if path.suffix in (".onnx", ".tflite"):
        return f"{text} is not there: check the path"
    if path.suffix == ".py":
        if not path.is_file():
            return f"{path} is not there: give the path of a Python file, then a colon and the class"
        classes = _classes(path)
        return f"{path} is a Python file: name the network in it, e.g. {path}:{(classes or ['Class'])[-1]}" + (
            f" (it has {', '.join(classes)})" if len(classes) > 1 else ""
        )
    package, _, name = text.rpartition(".")
    if package and name.isidentifier() and not text.startswith("."):
        return f"{text} is no file that is there; to name an object of a package write {package}:{name}"
    return f"{text} is no network and no file that is there; {FORMS}"


def _classes(path: Path) -> list[str]:
    """Names of the classes at the top of a Python file, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        # Importing it will tell.
        return []
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AuditError(f"{path} is not there: give the path of a Python file, then a colon and the class")
    # A private name: a user's `types.py` must not replace the standard library's.
    name = f"_mobilenets_audit_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _on_path(path.resolve().parent, Path.cwd()):
        try:
            _run_user_code(str(path), lambda: loader.exec_module(module))
        except AuditError as error:
            package = _package_of(path)
            if package is None or not _is_relative_import(error.__cause__):
                raise
            return _from_its_package(path, *package)
    return module


def _is_relative_import(error: BaseException | None) -> bool:
    """The file says `from . import ...`: it can be imported as a part of its package only."""
    return isinstance(error, ImportError) and "relative import" in str(error)


def _package_of(path: Path) -> tuple[Path, str] | None:
    """The folder a file's outermost package lies in and the file's dotted name; None outside a package."""
    root, names = path.resolve().parent, [path.stem]
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    return (root, ".".join(names)) if len(names) > 1 else None


def _from_its_package(path: Path, root: Path, name: str) -> ModuleType:
    module = _from_package(name, root)
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise AuditError(f"{path} needs its package {name}, but {module.__file__} has that name; rename the folder")
    return module


def _from_package(name: str, root: Path | None = None) -> ModuleType:
    with _on_path(root or Path.cwd()):
        module = _run_user_code(name, lambda: importlib.import_module(name))
    assert isinstance(module, ModuleType)
    return module


@contextmanager
def _on_path(*folders: Path) -> Iterator[None]:
    before = sys.path[:]
    sys.path[:0] = map(str, folders)
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def called_with(text: str) -> Iterator[None]:
    """Run what a target names as it would run in its own place: it finds its neighbours, and no arguments of ours."""
    source = text.rpartition(":")[0]
    folders = [Path(source).resolve().parent] if source.endswith(".py") else []
    with _on_path(*folders, Path.cwd()), no_arguments():
        yield


@contextmanager
def no_arguments() -> Iterator[None]:
    """Hide our own command line: a script that reads its arguments when imported gets its defaults."""
    before = sys.argv[:]
    sys.argv[1:] = []
    try:
        yield
    finally:
        sys.argv[:] = before


def _run_user_code(where: str, action: Callable[[], Any]) -> Any:
    """Import something of the user's; whatever goes wrong in it is one line."""
    try:
        with quiet(), no_arguments():
            return action()
    except SyntaxError as error:
        line = f"line {error.lineno} of {error.filename}" if error.filename else where
        raise AuditError(f"{where} is not Python: {error.msg} in {line}; fix it first") from error
    except ModuleNotFoundError as error:
        raise AuditError(f"{where} can't be imported: {first_line(error)}; install it or check the name") from error
    except SystemExit as error:
        raise AuditError(f"{where} ends the program when imported: guard it with if __name__ == '__main__'") from error
    except REFUSALS as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        fix = "guard what runs in it with if __name__ == '__main__', or fix it"
        if _is_relative_import(error):
            fix = "name it by its package from the folder above: package.module:Factory"
        raise AuditError(f"{where} can't be imported: {reason}; {fix}") from error
