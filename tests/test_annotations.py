"""Check that public names say the types of what they take and return.

mypy reads all of the package, but passes functions without types.
"""

import functools
import inspect
import types
import typing
from pathlib import Path

import pytest

import keras_neokd

pytestmark = pytest.mark.any_backend

ROOT = Path(keras_neokd.__file__).parent
MODULES = [
    keras_neokd,
    *(
        each
        for each in map(vars(keras_neokd).get, keras_neokd.__all__)
        if inspect.ismodule(each)
    ),
]


def exported(module):
    """Return the public names of a module, and what they stand for."""
    there = vars(module)
    names = there.get("__all__") or [
        name
        for name, value in there.items()
        if getattr(value, "__module__", None) == module.__name__
    ]
    return {name: there[name] for name in names if name[0] != "_"}


def is_ours(function):
    """Return whether a file of the package holds the function's lines."""
    code = getattr(function, "__code__", None)
    return code is not None and ROOT in Path(code.co_filename).parents


def functions_of(name, value):
    """Yield the functions behind a public name, those of a class one by one."""
    if isinstance(value, types.MethodType):
        value = value.__func__
    if not inspect.isclass(value):
        if inspect.isfunction(value):
            yield name, inspect.unwrap(value)
        return
    for cls in value.__mro__:
        for key, each in vars(cls).items():
            if key.startswith("_") and not key.endswith("__"):
                continue
            if isinstance(each, property):
                each = each.fget
            elif isinstance(each, functools.cached_property):
                each = each.func
            each = inspect.unwrap(getattr(each, "__func__", each))
            if is_ours(each):
                yield f"{name}: {cls.__name__}.{key}", each


def lacking(function):
    """Return the names that have no type, `return` among them."""
    parameters = list(inspect.signature(function).parameters)
    if parameters[:1] in (["self"], ["cls"]):
        del parameters[0]
    hints = typing.get_type_hints(function)
    return [name for name in (*parameters, "return") if name not in hints]


@pytest.mark.parametrize("module", MODULES, ids=lambda each: each.__name__)
def test_public_signatures_have_types(module):
    found = [
        pair
        for name, value in exported(module).items()
        for pair in functions_of(name, value)
    ]
    assert found
    problems = [
        f"{name} says no type of {', '.join(lacking(function))}"
        for name, function in found
        if lacking(function)
    ]
    assert not problems, "\n" + "\n".join(problems)


def test_methods_properties_and_presets_are_looked_at():
    names = {name for name, _ in functions_of("PGD", keras_neokd.attacks.PGD)}
    assert names >= {
        "PGD: PGD.__init__",
        "PGD: PGD.fgsm",
        "PGD: Attack.members",
        "PGD: Attack.__call__",
        "PGD: Configurable.replace",
    }
    assert "PGD: Attack._checked" not in names


def test_a_missing_type_is_found():
    def half(self, image: int, label, *more, exit=0) -> None:
        pass

    assert lacking(half) == ["label", "more", "exit"]
    assert lacking(lambda: 0) == ["return"]
