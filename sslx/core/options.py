"""Options of components: a component is a class, and its typed fields are its options.

Each field is declared once, with its type, default, limits and help. The constructor, the check of values from Python,
TOML files and the command line, the error messages, `sslx plugins show` and the `config.toml` of a run follow from it.

The first half of this file declares options. The second half, from `make` on, builds components from values.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import attrs
from typing_extensions import dataclass_transform

from sslx.core.catalogue import Resolved, catalogue
from sslx.core.dotted import merge
from sslx.core.errors import ConfigError, PluginError, Problems, SslxError, nearest
from sslx.core.values import Text, describe, read

__all__ = ["Component", "option", "slot"]


def option(
    *,
    default: Any = attrs.NOTHING,
    help: str,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> Any:
    """Declare an option of a component. An option without a default is required.

    The limits `gt` (>), `ge` (>=), `lt` (<) and `le` (<=) hold for a number, or for each number of a tuple. Defaults
    must be immutable: use tuples instead of lists.
    """
    limits = {name: limit for name, limit in dict(gt=gt, ge=ge, lt=lt, le=le).items() if limit is not None}
    return attrs.field(default=default, metadata={"help": help, "limits": limits})


def slot(*, default: str | type | Mapping[str, Any] | None, help: str = "", **options: Any) -> Any:
    """Declare a part of a component, which another component of the annotated interface fills.

    `default` must be a keyword, as in `option`. Otherwise type checkers treat the field as required.

    Args:
        default: the component used unless another one is chosen: its name, or its class if it is defined in the same
            package or file. None for an optional part (`Prior | None`) that is absent by default.
        options: defaults that this slot prefers for whichever component fills it, where that component has the option.
    """
    return attrs.field(default=default, metadata={"help": help, "slot": dict(options)})


def _in_place(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Keep the position of options that a subclass declares again, because parts are built in this order."""
    inherited = [field.name for field in getattr(cls.__base__, "__attrs_attrs__", ())]
    return sorted(fields, key=lambda f: inherited.index(f.name) if f.name in inherited else len(inherited))


@dataclass_transform(kw_only_default=True, field_specifiers=(option, slot))
class Component:
    """A class with options, which are annotated fields made by `option` or `slot`."""

    kind: ClassVar[str] = ""
    #: Methods that an interface leaves to its implementations; "features or forward" means at least one of them.
    must_define: ClassVar[tuple[str, ...]] = ()
    #: Run settings that this component recommends, such as {"train": {"epochs": 5}}; a user's settings override them.
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: Inherited options that this class does not use, so that nobody can set them.
    ignored: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, *, kind: str = "", must_define: tuple[str, ...] | None = None, **changed: Any) -> None:
        """Process a subclass. `class Mine(Base, crop=(0.4, 1.0), prior="mixture")` changes defaults of Base's options.

        For a slot, `{"use": NAME, option: value}` also sets options that the slot prefers for the component in it.
        An interface gives its `kind` and the methods that its implementations must define.
        """
        super().__init_subclass__()
        if kind:
            cls.kind, cls.must_define = kind, must_define or ()
        fields: dict[str, Any] = {field.name: field for field in getattr(cls, "__attrs_attrs__", ())}
        for name, value in changed.items():
            if name not in fields:
                raise ConfigError(f"class {cls.__name__}: there is no option {name!r} to change{nearest(name, fields)}")
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
        # Without NO_OP, attrs would replace nn.Module.__setattr__, and parameters would not be registered.
        attrs.define(
            cls,
            init=False,
            slots=False,
            kw_only=True,
            eq=False,
            repr=False,
            auto_attribs=False,
            on_setattr=attrs.setters.NO_OP,
            field_transformer=_in_place,
        )
        signature = inspect.signature(cls.__attrs_init__)  # type: ignore[attr-defined]
        cls.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore

    def __init__(self, /, **given: Any) -> None:
        name = type(self).__name__
        self.__attrs_init__(**_values(type(self), given, name, name))  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in options_of(type(self)))
        return f"{type(self).__name__}({', '.join(fields)})"


class Option(NamedTuple):
    """One option of a component class."""

    name: str
    type: Any
    default: Any  # attrs.NOTHING if it is required
    help: str
    limits: Mapping[str, float]
    slot: Mapping[str, Any] | None  # options that a slot prefers for its component; None for a plain option
    owner: str  # the package that declares the option, and that the default of a slot refers to

    @property
    def expected(self) -> str:
        """The accepted values in words."""
        if interface := interface_of(self.type):
            return (interface.kind or "options") + (" or none" if self.optional else "")
        return describe(self.type, self.limits)

    @property
    def optional(self) -> bool:
        return type(None) in typing.get_args(self.type)


def used_names(function: Any) -> set[str]:
    """The names of attributes, functions and other globals in the code of a function, inner functions included."""
    function = inspect.unwrap(getattr(function, "fget", None) or function)
    code = getattr(function, "__code__", function)
    if not isinstance(code, types.CodeType):
        return set()
    return set(code.co_names).union(*map(used_names, code.co_consts))


def options_of(cls: type) -> dict[str, Option]:
    """The options of a component class by name, with their types resolved."""
    return {name: option for name, option in _declared(cls).items() if name not in cls.ignored}  # type: ignore


def _declared(cls: type) -> dict[str, Option]:
    if "_options" in vars(cls):
        return vars(cls)["_options"]
    if not attrs.has(cls):  # Component itself, which has no options
        return {}
    hints = typing.get_type_hints(cls)
    found = {}
    for field in attrs.fields(cls):
        if field.name not in hints:
            raise TypeError(f"{cls.__name__}.{field.name}: an option needs a type annotation")
        name, meta = field.name, field.metadata
        declares = next((c for c in cls.__mro__ if name in inspect.get_annotations(c)), cls)
        limits, preferred = meta.get("limits", {}), meta.get("slot")
        package = declares.__module__.split(".")[0]
        found[name] = Option(name, hints[name], field.default, meta["help"], limits, preferred, package)
    cls._options = found  # type: ignore[attr-defined]
    return found


def interface_of(hint: Any) -> type[Component] | None:
    """`Prior` for `Prior`, `Prior | None` and `dict[str, Prior]`; None for types without a component."""
    for member in typing.get_args(hint) or (hint,):
        if isinstance(member, type) and issubclass(member, Component):
            return member
    return None


# --- building ---------------------------------------------------------------------------------------------------------


def make(
    interface: type[Component],
    data: Any,
    where: str = "",
    *,
    preferred: Mapping[str, Any] = {},
    owner: str = "",
    around: type[Component] | None = None,
) -> Any:
    """The component that `data` describes. Raises ConfigError with one line for each mistake.

    Args:
        interface: class of which the component must be an instance. One without a kind is built itself, without `use`.
        data: a component, a class, a name, or a table `{"use": NAME or class, option: value, ...}`.
        where: dotted path of the component, for messages.
        preferred: options used where the component has them and `data` does not set them.
        owner: the package that chose the component by default, if the user did not.
        around: the enclosing component, whose option names are suggested when this one has no such option.
    """
    if isinstance(data, interface):
        return data
    if isinstance(data, str | type) and interface.kind:
        data = {"use": data}
    if isinstance(data, Component):
        name, cls = _article(interface.__name__), type(data)
        raise ConfigError(f"{where}: {cls.__name__} is not {name}{_found(cls, interface)}".lstrip(": "))
    if not isinstance(data, Mapping) or ("use" in data and not interface.kind):
        got = _shown(data["use"] if isinstance(data, Mapping) else data)
        name = f"the name of {_article(interface.kind)} or " if interface.kind else ""
        raise ConfigError(f"{where}: expected {name}a table of options, got {got}".lstrip(": "))
    given = dict(data)
    found = _resolve(interface, given.pop("use", None), where, owner) if interface.kind else Resolved(interface, "")
    cls, use, argument = found
    known = options_of(cls)
    if argument is not None:
        required = [name for name, option in known.items() if option.default is attrs.NOTHING]
        if len(required) != 1:
            raise ConfigError(f"{where}: {use} takes no argument after a colon, got {argument!r}")
        given.setdefault(required[0], Text(argument))
    given = merge({name: value for name, value in preferred.items() if name in known}, given)
    values = _values(cls, given, where, use or cls.__name__, around)
    component: Any = cls.__new__(cls)
    try:
        component.__attrs_init__(**values)
    except ConfigError as error:  # from a check across several options, in __attrs_post_init__
        raise ConfigError([f"{where}: {problem}".lstrip(": ") for problem in error.problems]) from error
    if use:
        component.__dict__["_use"] = use
    return component


def _resolve(interface: type[Component], use: Any, where: str, owner: str) -> Resolved:
    """The class that `use` names, checked against the interface. Raises ConfigError."""
    if isinstance(use, type):
        found = Resolved(use, catalogue().reference(use))
    elif isinstance(use, str) and len(use.partition(":")[0]) < 1000:
        try:
            found = catalogue().resolve(interface.kind, str(use), owner)
        except (PluginError, ConfigError) as error:
            raise ConfigError(f"{where}: {error}") from error
    else:
        got = "" if use is None else f", got {_shown(use)}"
        raise ConfigError(f"{where}: expected the name of {_article(interface.kind)}{got}")
    cls = found.cls
    if not (isinstance(cls, type) and issubclass(cls, interface)):
        raise ConfigError(f"{where}: {found.use} is not {_article(interface.__name__)}{_found(cls, interface)}")
    root: Any = next(c for c in cls.__mro__ if "must_define" in vars(c))
    alternatives = [names.split(" or ") for names in root.must_define]
    missing = [names for names in alternatives if all(getattr(cls, name) is getattr(root, name) for name in names)]
    if missing:
        names = " and ".join(" or ".join(each) for each in missing)
        raise ConfigError(f"{where}: {found.use} must define {names}, as sslx.api.{root.__name__} says")
    return found


def _found(cls: Any, interface: type[Component]) -> str:
    """What a class is that is not of an interface."""
    kind = cls.kind if isinstance(cls, type) and issubclass(cls, Component) else ""
    return f"; it is {_article(kind)}" if kind else f"; expected a subclass of sslx.api.{interface.__name__}"


def _values(
    cls: type[Component], given: Mapping[str, Any], where: str, name: str, around: type[Component] | None = None
) -> dict[str, Any]:
    """The checked value of each option of a class. Raises ConfigError with one line for each mistake."""
    known, problems, values = options_of(cls), Problems(), {}
    for unknown in sorted(map(str, given.keys() - known.keys())):
        advice = "; its forward does not use it" if unknown in cls.ignored else _advice(unknown, known, around, given)
        problems.append(f"{where}.{unknown}".lstrip(".") + f": {name} has no option {unknown!r}{advice}")
    for option in _declared(cls).values():
        dotted = f"{where}.{option.name}".lstrip(".")
        value = given.get(option.name, option.default)
        with problems.collecting():
            if value is attrs.NOTHING:
                raise ConfigError(f"{dotted}: {name} needs this option: {option.expected}. {option.help}")
            values[option.name] = _value(option, value, dotted, cls if where == "" else None)
    problems.check()
    return values


def _value(option: Option, value: Any, where: str, around: type[Component] | None) -> Any:
    """The checked value of one option: a plain value, a part, or several parts by name. Raises ConfigError."""
    interface = interface_of(option.type)
    if interface is None:
        try:
            return read(value, option.type, option.limits)
        except ValueError:
            raise ConfigError(f"{where}: expected {option.expected}, got {_shown(value)}") from None
    if typing.get_origin(option.type) is dict:
        return _parts(option, interface, value, where)
    return _part(option, interface, value, where, around)


def _part(
    option: Option, interface: type[Component], value: Any, where: str, around: type[Component] | None
) -> Component | None:
    """The component in a slot, or None. Options without a `use` are those of the slot's default component."""
    if option.optional:
        if value is None or value == "none":
            return None
        if isinstance(value, Mapping) and value.get("use") == "none":
            others = sorted(value.keys() - {"use"})
            Problems(f"{where}.{name}: {where} is none, which has no options" for name in others).check()
            return None
    owner = ""
    if interface.kind:
        default = option.default if isinstance(option.default, str | type) else None
        if isinstance(value, str | type):
            value = {"use": value}
        if isinstance(value, Mapping):
            value = {"use": default, **value}
            owner = option.owner if value["use"] == default else ""
    elif value is None:
        value = {}  # a group of options that is always present
    return make(interface, value, where, preferred=option.slot or {}, owner=owner, around=around)


def _parts(option: Option, interface: type[Component], value: Any, where: str) -> dict[str, Any]:
    """Parts by name, from `{"knn": {...}, "linear": {}}` or from a list of names, classes and components."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, interface | type):
        value = [value]
    if not isinstance(value, Mapping | list | tuple):
        raise ConfigError(f"{where}: expected names of {interface.kind}s or a table of them, got {_shown(value)}")
    problems, parts = Problems(), dict[str, Any]()
    for name, part in value.items() if isinstance(value, Mapping) else [("", part) for part in value]:
        if isinstance(value, Mapping) and name in ("", "use"):
            article = _article(interface.kind)
            raise ConfigError(f"{where}: expected a table with the name of {article} as each key, got {name!r}")
        if isinstance(part, str) and not name:
            name, part = str(part), {}
        default = isinstance(option.default, Mapping) and name in option.default
        with problems.collecting():
            table = {"use": name, **part} if isinstance(part, Mapping) else part
            made = make(interface, table, f"{where}.{name}".rstrip("."), owner=option.owner if default else "")
            name = label(made) if not name or ":" in name else name  # tables show no paths of files
            if name in parts:
                raise ConfigError(f"{where}: two are called {name!r}; give them different names, as keys of a table")
            parts[name] = made
    problems.check()
    return parts


def listed(given: Any, where: str) -> list[Any]:
    """What was given as a list, or alone, as a list. Raises ConfigError for other values, such as numbers."""
    if isinstance(given, str | type | Component):
        return [given]
    if not isinstance(given, Iterable):
        raise ConfigError(f"{where}: expected a list, got {_shown(given)}")
    return list(given)


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "an integer of more than 64 bits"
    text = str(value) if isinstance(value, Text) and value.isprintable() else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _advice(name: str, known: Mapping[str, Option], around: type[Component] | None, given: Mapping[str, Any]) -> str:
    """A suggestion for an unknown name: a part that has this option, or the nearest option, here or in `around`."""
    everywhere = {**known, **(options_of(around) if around else {})}
    for group, option in everywhere.items():
        interface = interface_of(option.type)
        if interface is not None and not interface.kind:
            inner = options_of(interface)
            parts = [part for each in inner.values() if (part := interface_of(each.type)) is not None]
            if name in inner or any(name in options_of(part) for part in parts):
                return f" (did you mean '{group}.{name}'?)"
    for slot, option in everywhere.items():
        if name in _options_in(option, given.get(slot)):
            return f" (did you mean '{slot}.{name}'?)"
    if around is not None and isinstance(given.get(name), Mapping):  # knn.neighbours, as `sslx eval` takes it
        with suppress(ConfigError, PluginError):
            catalogue().resolve("evaluator", name)
            return f" (did you mean 'evaluators.{name}'?)"
    return nearest(name, known, everywhere)


def _options_in(option: Option, value: Any) -> Iterable[str]:
    """The options of what a slot is given, or else of its default; none if that cannot be had."""
    interface, use = interface_of(option.type), value.get("use") if isinstance(value, Mapping) else value
    use = option.default if use is None else use
    if interface is None or not interface.kind or not isinstance(use, str | type):
        return ()
    try:
        return options_of(_resolve(interface, use, option.name, option.owner).cls)
    except SslxError:
        return ()


# --- names and values of a component -----------------------------------------------------------------------------


def reference(component: Component) -> str:
    """The reference by which a component was chosen, or the reference of its class."""
    return str(vars(component).get("_use") or catalogue().reference(type(component)))


def label(component: Component) -> str:
    """Short name of a component, for tables and folders."""
    return short(reference(component))


def short(reference: str) -> str:
    """`MyMethod` for `/somewhere/file.py:MyMethod`, `mixture` for `mixture`."""
    return re.split("[/:.]", reference)[-1]


def to_dict(component: Component) -> dict[str, Any]:
    """A component as plain values, from which `make` builds an equal one. None becomes "none", as TOML has no null."""
    use = {"use": reference(component)} if component.kind else {}
    return {**use, **{name: _plain(getattr(component, name)) for name in options_of(type(component))}}


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return to_dict(value)
    if isinstance(value, Mapping):  # `use` is left out where it equals the name of the part
        parts = {name: _plain(part) for name, part in value.items()}
        return {name: {k: v for k, v in part.items() if (k, v) != ("use", name)} for name, part in parts.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if value is None:
        return "none"
    return str(value) if isinstance(value, Path) else value
