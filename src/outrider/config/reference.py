"""The configuration reference, written from `schema.py` itself: ``python -m outrider.config.reference``."""

from __future__ import annotations

import ast
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import TypeGuard

import msgspec

from outrider.config import amdp_schema, schema

_INTRODUCTION = """\
# Configuration reference

Generated from `src/outrider/config/schema.py` by `make reference`; do not edit. `outrider check-config`
reads a file and names every fault with line and remedy. Unknown keys are refused. Relative paths are taken
from the file's own folder. Numbers are written without a unit: the type says in which they are counted, and
there are no suffixes (`20_000_000`, not `"20M"`). A key that is not written has its default, a table that is
not written all of its defaults.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    texts = _texts()
    parts = [_INTRODUCTION, _section("", schema.Config, texts)]
    for field in msgspec.structs.fields(schema.Config):
        struct = _struct_in(field.type)
        if struct is not None:
            parts.append(_section(_heading(field.name, field.type), struct, texts))
        parts.extend(_tables_within(field.name, field.type, texts))
    parts.append(_section("[[tls.sni]]", schema.Certificate, texts))
    parts.append(_section("[[policy.rules]]", schema.Rule, texts))
    parts.append(_section('[trust.lists."NAME"]', schema.TrustList, texts))
    parts.append(_section("[[mpc.assigned]]", schema.MpcAssignment, texts))
    parts.append(_section('[domains."NAME".lists."NAME"]', schema.MailingList, texts))
    parts.append(_section('[domains."NAME".vacation]', schema.Vacation, texts))
    return "\n".join(parts)


def _section(heading: str, struct: type[msgspec.Struct], texts: dict[tuple[str, str], str]) -> str:
    title = f"## `{heading}`" if heading else "## At the top"
    lines = [f"{title}\n", f"{(struct.__doc__ or '').strip()}\n", "| key | type | default | meaning |"]
    lines.append("| --- | --- | --- | --- |")
    for field in msgspec.structs.fields(struct):
        meaning = texts.get((struct.__name__, field.name), "").replace("|", "\\|")
        lines.append(f"| `{field.name}` | {_type_text(field.type)} | {_default_text(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _tables_within(name: str, kind: object, texts: dict[tuple[str, str], str]) -> Iterator[str]:
    """Sections of tables that a table has, such as `[amdp.policy]`."""
    if not _is_table(kind):
        return
    for field in msgspec.structs.fields(kind):
        if _is_table(field.type):
            within = f"{name}.{field.name}"
            yield _section(f"[{within}]", field.type, texts)
            yield from _tables_within(within, field.type, texts)


def _is_table(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _heading(name: str, kind: object) -> str:
    origin = typing.get_origin(kind)
    if origin is tuple:
        return f"[[{name}]]"
    return f'[{name}."NAME"]' if origin is dict else f"[{name}]"


def _texts() -> dict[tuple[str, str], str]:
    """The string after each annotated name in the source is its meaning."""
    texts: dict[tuple[str, str], str] = {}
    sources = (inspect.getsource(module) for module in (schema, amdp_schema))
    for node in (node for source in sources for node in ast.parse(source).body):
        if not isinstance(node, ast.ClassDef):
            continue
        for before, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
                text = after.value if isinstance(after, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    texts[node.name, before.target.id] = " ".join(text.value.split())
    return texts


def _struct_in(kind: object) -> type[msgspec.Struct] | None:
    if _is_table(kind):
        return kind
    for part in typing.get_args(kind):
        found = _struct_in(part)
        if found is not None:
            return found
    return None


_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", object: "any"}


def _type_text(kind: object) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and kind in _PLAIN:
        return _PLAIN[kind]
    if origin is typing.Annotated:
        return _bounded(arguments[0], arguments[1])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_type_text(arguments[0])}"
    if origin is dict:
        return f"table of {_type_text(arguments[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_text(part) for part in arguments if part is not type(None))
    return "table"


def _bounded(kind: object, bounds: msgspec.Meta) -> str:
    """The unit, where there is one, and what is more than that it is not negative."""
    text = bounds.title or _type_text(kind)
    limits = ((bounds.gt, "over"), (bounds.ge, "from"), (bounds.le, "up to"))
    told = [f"{word} {limit:g}" for limit, word in limits if limit is not None]
    if told == ["from 0"] or text in ("port", "percent"):
        return text
    return f"{text}, {' '.join(told)}"


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if field.default_factory is dict:
        return "`{}`"
    if value is msgspec.NODEFAULT or isinstance(value, msgspec.Struct):
        return ""
    if value is None:
        return "see text"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, float) and _unit(field.type) == "seconds":
        return f"`{value:.15g}`{_in_larger_units(value)}"
    return f"`{value:.15g}`" if isinstance(value, float) else f"`{value}`"


def _unit(kind: object) -> str:
    """The title of a number's bounds."""
    bounds = typing.get_args(kind)[1:] if typing.get_origin(kind) is typing.Annotated else ()
    return next((one.title for one in bounds if isinstance(one, msgspec.Meta) and one.title), "")


def _in_larger_units(seconds: float) -> str:
    """`` (14 days)``; nothing below an hour."""
    for length, name in ((86_400, "day"), (3600, "hour")):
        count, rest = divmod(seconds, length)
        if count and not rest:
            return f" ({count:g} {name}{'s' if count > 1 else ''})"
    return ""


if __name__ == "__main__":
    sys.stdout.write(reference())
