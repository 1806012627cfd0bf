"""Options: a component is a class, and its typed fields are its options.

A field is declared once, with its type, default, limits and help. From that follow the constructor, the check of
every value wherever it comes from (Python, a TOML file, the command line), the error message, `sslx plugins show`
and the complete `config.toml` of a run.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Union

import attrs
import cattrs
from typing_extensions import dataclass_transform

from sslx.core.errors import ConfigError, PluginError, nearest
from sslx.core.toml import TOMLDecodeError, loads

_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": (">", lambda value, limit: value > limit),
    "ge": (">=", lambda value, limit: value >= limit),
    "lt": ("<", lambda value, limit: value < limit),
    "le": ("<=", lambda value, limit: value <= limit),
}


class Text(str):
    """A value typed on the command line: what it means depends on the type of the option that gets it."""


class Resolved(NamedTuple):
    """What a reference such as `shared-mean`, `timm:resnet18` or `./file.py:Class` stands for."""

    cls: type
    use: str  # the reference without its argument, as it is written to a config
    argument: str | None = None  # "resnet18" of "timm:resnet18": the value of the component's required option


def _unset(kind: str, reference: str, owner: str) -> Resolved:
    raise PluginError(f"no registry is loaded to look up the {kind} {reference!r}; import sslx.api first")


#: Turns (kind, reference, owner) into a class. The plugin registry puts itself here; the core knows no component by
#: name. `owner` is the package that made the reference a default: of several providers it means its own.
resolver: Callable[[str, str, str], Resolved] = _unset

#: By kind: the component around one of it, whose options may be meant where it has none of a name.
around: dict[str, type[Component]] = {}


def option(
    *,
    default: Any = attrs.NOTHING,
    help: str,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> Any:
    """Declare an option of a component. Without a default the option is required.

    Limits hold for a number, or for each number of a tuple. Mutable defaults are not possible: use tuples.
    """
    limits = {name: limit for name, limit in dict(gt=gt, ge=ge, lt=lt, le=le).items() if limit is not None}
    return attrs.field(default=default, converter=_CONVERTER, metadata={"help": help, "limits": limits})


def slot(*, default: str | Mapping[str, Any] | None, help: str = "", **options: Any) -> Any:
    """Declare a part of a component, filled by another component of the annotated interface.

    The default is given by keyword, as in `option`, or type checkers would call the field required.

    Args:
        default: name of the component used unless another is chosen. An optional part (`Prior | None`) may have none.
        options: defaults that this slot prefers for whichever component fills it, where that component has the option.
    """
    return attrs.field(
        default=default, converter=_CONVERTER, metadata={"help": help, "slot": dict(options), "default": default}
    )


def _in_place(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """An option declared again by a subclass stays where it was: parts are built in this order."""
    inherited = [field.name for field in getattr(cls.__base__, "__attrs_attrs__", ())]
    return sorted(fields, key=lambda f: inherited.index(f.name) if f.name in inherited else len(inherited))


@dataclass_transform(kw_only_default=True, field_specifiers=(option, slot))
class Component:
    """Anything with options. Subclasses list their options as annotated fields made by `option` or `slot`."""

    kind: ClassVar[str] = ""
    #: Methods that an interface leaves to those who implement it; "features or forward" is one of both.
    must_define: ClassVar[tuple[str, ...]] = ()
    #: Run settings that this component recommends, such as {"train": {"lr": 1e-3}}; a user's settings override them.
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **changed: Any) -> None:
        """`class Mine(Base, crop=(0.4, 1.0), prior="mixture")` has the options of Base with other defaults.

        For a slot, `{"use": NAME, option: value}` also says what the slot prefers for whatever fills it.
        """
        super().__init_subclass__()
        fields: dict[str, Any] = {field.name: field for field in getattr(cls, "__attrs_attrs__", ())}
        for name, value in changed.items():
            old = fields[name].metadata
            if "slot" in old:
                part = dict(value) if isinstance(value, Mapping) else {"use": value}
                declared = slot(default=part.pop("use"), help=old["help"], **old["slot"] | part)
            else:
                declared = option(default=value, help=old["help"], **old["limits"])
            setattr(cls, name, declared)
        for name, annotation in inspect.get_annotations(cls).items():
            value = cls.__dict__.get(name)
            if value is not None and not hasattr(value, "metadata") and "ClassVar" not in str(annotation):
                raise TypeError(f"{cls.__name__}.{name}: write it as option(default={value!r}, help=...), or ClassVar")
        # NO_OP, or attrs would replace nn.Module.__setattr__ and parameters would silently not register.
        attrs.define(
            cls,
            slots=False,
            kw_only=True,
            eq=False,
            repr=False,
            auto_attribs=False,
            on_setattr=attrs.setters.NO_OP,
            field_transformer=_in_place,
        )

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in options_of(type(self)))
        return f"{type(self).__name__}({', '.join(fields)})"


class Option(NamedTuple):
    """One option as `sslx plugins show` prints it."""

    name: str
    type: Any
    default: Any  # attrs.NOTHING where it is required
    help: str
    limits: Mapping[str, float]
    slot: Mapping[str, Any] | None  # the slot's preferred options, None for a plain option
    owner: str  # the package that declares it, whose parts the default of a slot means

    @property
    def expected(self) -> str:
        return describe(self.type, self.limits)


def options_of(cls: type) -> dict[str, Option]:
    """The options of a component class by name, with their types resolved."""
    if "_options" not in cls.__dict__:
        cls._options = _read_options(cls)  # type: ignore[attr-defined]
    options: dict[str, Option] = cls.__dict__["_options"]
    return options


def _read_options(cls: type) -> dict[str, Option]:
    hints = typing.get_type_hints(cls)
    found = {}
    for field in attrs.fields(cls):
        if field.name not in hints:
            raise TypeError(f"{cls.__name__}.{field.name}: an option needs a type annotation")
        meta, declares = field.metadata, (c for c in cls.__mro__ if field.name in inspect.get_annotations(c))
        found[field.name] = Option(
            field.name,
            hints[field.name],
            field.default,
            meta["help"],
            meta.get("limits", {}),
            meta.get("slot"),
            next(declares, cls).__module__.split(".")[0],
        )
    return found


def interface_of(hint: Any) -> type[Component] | None:
    """`Prior` for `Prior` and for `Prior | None`; None for a type that is no component."""
    for member in typing.get_args(hint) or (hint,):
        if isinstance(member, type) and issubclass(member, Component):
            return member
    return None


# --- values -----------------------------------------------------------------------------------------------------------

_values = cattrs.Converter()


def _origin(hint: Any) -> Any:
    return typing.get_origin(hint)


def _strict(cls: type, *accepted: type) -> None:
    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, bool) is not (cls is bool) or not isinstance(value, accepted):
            raise ValueError(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(value)  # no option means anything by inf or nan
        return cls(value)

    _values.register_structure_hook(cls, structure)


def _sequence(value: Any, hint: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(value)  # a string is not a sequence of its letters
    members = typing.get_args(hint)
    if members[-1] is Ellipsis:
        return tuple(_values.structure(item, members[0]) for item in value)
    if len(members) != len(value):
        raise ValueError(value)
    return tuple(_values.structure(item, member) for item, member in zip(value, members, strict=True))


def _union(value: Any, hint: Any) -> Any:
    for member in typing.get_args(hint):
        if member is type(None):
            if value is None or value == "none":  # TOML has no null
                return None
            continue
        try:
            return _values.structure(value, member)
        except Exception:  # not this member: try the next
            continue
    raise ValueError(value)


_strict(bool, bool)
_strict(int, int)
_strict(float, int, float)
_strict(str, str)
_strict(Path, str, Path)
_values.register_structure_hook_func(lambda hint: _origin(hint) is tuple, _sequence)
_values.register_structure_hook_func(lambda hint: _origin(hint) in (Union, types.UnionType), _union)


def _readings(value: Any) -> Iterator[Any]:
    """The things a value can mean, most likely first."""
    if not isinstance(value, Text):
        yield value
        return
    for text in (value, f"[{value}]"):
        try:
            yield loads(f"value = {text}")["value"]
        except TOMLDecodeError:
            pass
    yield str(value)
    yield [part.strip() for part in value.split(",")]


def describe(hint: Any, limits: Mapping[str, float] | None = None) -> str:
    """A type in words, for messages: `a number > 0`."""
    words = {bool: "true or false", int: "an integer", float: "a number", str: "text", Path: "a path"}
    words[type(None)] = "none"
    origin = _origin(hint)
    members = typing.get_args(hint)
    if interface := interface_of(hint):
        text = f"{interface.kind or 'options'}" + (" or none" if type(None) in members else "")
    elif origin is Literal:
        text = "one of " + ", ".join(str(member) for member in members)
    elif origin is tuple and members[-1] is Ellipsis:
        return f"a list, each item {describe(members[0], limits)}"
    elif origin is tuple:
        return f"a list of {len(members)}, each item {describe(members[0], limits)}"
    elif origin in (Union, types.UnionType):
        return " or ".join(describe(m, limits if m in (int, float) else None) for m in members)
    else:
        text = words.get(hint, getattr(hint, "__name__", str(hint)))
    for name, limit in (limits or {}).items():
        text += f" {_LIMITS[name][0]} {limit:g}"
    return text


def _within(value: Any, limits: Mapping[str, float]) -> bool:
    if isinstance(value, tuple):
        return all(_within(item, limits) for item in value)
    if not limits or value is None or not isinstance(value, int | float):
        return True
    return all(_LIMITS[name][1](value, limit) for name, limit in limits.items())  # false for nan, as it should be


def coerce(option: Option, value: Any, where: str, problems: list[str]) -> Any:
    """`value` as the option's type, or a line in `problems`. Never raises for a user's mistake."""
    if option.slot is not None or interface_of(option.type):
        return _coerce_part(option, value, where, problems)
    for reading in _readings(value):
        try:
            result = _values.structure(reading, option.type)
        except Exception:  # cattrs raises many kinds; the message is ours in any case
            continue
        if _within(result, option.limits):
            return result
    problems.append(f"{where}: expected {option.expected}, got {value if isinstance(value, Text) else repr(value)}")
    return None


# --- parts ------------------------------------------------------------------------------------------------------------


def _coerce_part(option: Option, value: Any, where: str, problems: list[str]) -> Any:
    interface = interface_of(option.type)
    assert interface is not None, f"{where}: a slot must be annotated with a component interface"
    optional = type(None) in typing.get_args(option.type)
    if isinstance(value, interface) or (optional and value is None):
        return value
    if optional and (value.get("use") if isinstance(value, Mapping) else value) == "none":
        wrong = sorted(value.keys() - {"use"}) if isinstance(value, Mapping) else []
        problems.extend(f"{where}.{name}: {where} is none, which has no options" for name in wrong)
        return None
    if typing.get_origin(option.type) is dict:  # named parts: {"knn": {...}, "linear": {}}
        if isinstance(value, str):
            value = [name.strip() for name in value.split(",") if name.strip()]
        if not isinstance(value, Mapping):
            value = {name: {} for name in value}
        named: dict[str, Any] = {}
        for name, part in value.items():
            if not isinstance(part, interface):
                owner = option.owner if name in (option.default or ()) else ""
                part = make(interface, {"use": name, **part}, f"{where}.{name}", problems, owner=owner)
                name = vars(part)["_use"] if part is not None else name  # of a file, its path from anywhere
            named[name] = part
        return named
    if isinstance(value, str):
        value = {"use": str(value)}
    if not isinstance(value, Mapping):
        problems.append(f"{where}: expected the name of a {interface.kind} or a table of its options, got {value!r}")
        return None
    default = option.default if isinstance(option.default, str) else None
    data = {"use": default, **value}
    owner = option.owner if data["use"] == default else ""
    return make(interface, data, where, problems, option.slot or {}, owner)


def make(
    interface: type[Component],
    data: Mapping[str, Any],
    where: str,
    problems: list[str],
    preferred: Mapping[str, Any] = {},
    owner: str = "",
) -> Any:
    """Build a component from `{"use": NAME, option: value, ...}`, adding a line to `problems` for each mistake.

    Args:
        interface: what it must be an instance of; one without a kind is built as it is and takes no `use`.
        where: dotted path of the component, for messages.
        owner: the package that chose the component by default, if it was not the user.
        preferred: options the slot prefers, used where the component has them and `data` does not say otherwise.
    """
    data = dict(data)
    use, cls = data.pop("use", None), interface
    before = len(problems)
    if interface.kind:
        if use is None:
            problems.append(f"{where}: expected the name of a {interface.kind}")
            return None
        if not isinstance(use, str):
            problems.append(f"{where}: expected the name of a {interface.kind}, got {use!r}")
            return None
        try:
            cls, use, argument = resolver(interface.kind, use, owner)
        except (PluginError, ConfigError) as error:
            problems.append(f"{where}: {error}")
            return None
        if not (isinstance(cls, type) and issubclass(cls, interface)):
            problems.append(f"{where}: {use} is no {interface.__name__}")
            return None
        root: Any = next(c for c in cls.__mro__ if "must_define" in vars(c))
        if missing := [
            names
            for names in root.must_define
            if all(getattr(cls, name) is getattr(root, name) for name in names.split(" or "))
        ]:
            problems.append(f"{where}: {use} must define {' and '.join(missing)}, as sslx.api.{root.__name__} says")
            return None
        if argument is not None:
            required = [name for name, field in options_of(cls).items() if field.default is attrs.NOTHING]
            if len(required) != 1:
                problems.append(f"{where}: {use} takes no argument after a colon, got {argument!r}")
                return None
            data.setdefault(required[0], Text(argument))
    known = options_of(cls)
    for name in sorted(data.keys() - known.keys()):
        dotted = f"{where}.{name}".lstrip(".")
        problems.append(f"{dotted}: {use or cls.__name__} has no option {name!r}{_advice(name, known, interface.kind)}")
    values = {name: value for name, value in preferred.items() if name in known} | data
    arguments = {}
    for name, field in known.items():
        dotted = f"{where}.{name}".lstrip(".")
        if name in values:
            arguments[name] = coerce(field, values[name], dotted, problems)
        elif field.slot is not None and field.default is not None:
            arguments[name] = coerce(field, field.default, dotted, problems)
        elif field.default is attrs.NOTHING:
            problems.append(f"{dotted}: {use or cls.__name__} needs this option: {field.expected}, {field.help}")
    if len(problems) > before:
        return None
    try:
        component = cls(**arguments)
    except ConfigError as error:  # a check across several options, in __attrs_post_init__
        problems.extend(f"{where}: {problem}".lstrip(": ") for problem in error.problems)
        return None
    if use is not None:
        component.__dict__["_use"] = use
    return component


def _advice(name: str, known: Mapping[str, Option], kind: str) -> str:
    """The nearest option, or the group that has one of this name; also of what is around a component of this kind."""
    everywhere = {**known, **(options_of(around[kind]) if kind in around else {})}
    for group, option in everywhere.items():
        interface = interface_of(option.type)
        if interface is not None and not interface.kind and name in options_of(interface):
            return f" (did you mean '{group}.{name}'?)"
    return nearest(name, known, everywhere)


def _convert(value: Any, instance: Any, field: attrs.Attribute[Any]) -> Any:
    """The attrs converter of every option: the same check for Python callers as for files and command lines."""
    cls, problems = type(instance), list[str]()
    option = options_of(cls)[field.name]
    interface = interface_of(option.type)
    if value is None and interface is not None and not interface.kind:
        value = {}  # a group of options that is always there
    value = coerce(option, value, f"{cls.__name__}.{field.name}", problems)
    if problems:
        raise ConfigError(problems)
    return value


_CONVERTER: Any = attrs.Converter(_convert, takes_self=True, takes_field=True)


def to_dict(component: Component) -> dict[str, Any]:
    """The component as plain values, from which `make` builds an equal one. None is written as "none"."""
    result: dict[str, Any] = {}
    if component.kind:
        cls = type(component)
        result["use"] = component.__dict__.get("_use", f"{cls.__module__}:{cls.__qualname__}")
    for name in options_of(type(component)):
        result[name] = _plain(getattr(component, name))
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: {k: v for k, v in _plain(item).items() if k != "use"} for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if value is None:
        return "none"
    return str(value) if isinstance(value, Path) else value
