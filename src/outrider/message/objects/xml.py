"""XML as MT2 allows it, and nothing more (MT2-5, SEC-120 to SEC-133).

A document is refused by its octets, before a parser sees it, when it is too large, not UTF-8, or holds
anything that our vocabulary has no use for: a document type, entities of its own, CDATA sections, comments,
processing instructions. What is left is elements, attributes and text. The parser may neither load nor
resolve anything, and the published schema, compiled once, decides which elements and attributes there are.
There is no streaming reader because there is no endless stream: a peer has said how long an object is, and
got leave for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from importlib import resources
from typing import Final, Protocol, cast

from lxml import etree  # type: ignore[import-untyped,unused-ignore]

from outrider.message.objects.errors import ObjectError

_DECLARATION: Final = re.compile(
    rb"""<\?xml[ \t\r\n]+version=(?:"1\.0"|'1\.0')"""
    rb"""(?:[ \t\r\n]+encoding=(?:"utf-8"|'utf-8'))?"""
    rb"""(?:[ \t\r\n]+standalone=(?:"yes"|'yes'|"no"|'no'))?[ \t\r\n]*\?>""",
    re.IGNORECASE,
)

_FORBIDDEN: Final = re.compile(rb"<[!?]")
_FORBIDDEN_KINDS: Final = {
    b"<!": "a document type, comment or CDATA section",
    b"<?": "a processing instruction, or an XML declaration of another kind",
}


class Element(Protocol):
    """As much of an element as readers here use."""

    @property
    def tag(self) -> str:
        """``{namespace}name``."""
        ...

    @property
    def text(self) -> str | None:
        """The characters up to the first child, None for none."""
        ...

    @property
    def nsmap(self) -> dict[str | None, str]:
        """The namespaces declared for it, here or above."""
        ...

    def iter(self) -> Iterator[Element]:
        """Itself and everything below."""
        ...

    def get(self, key: str, /) -> str | None:
        """An attribute's value, None where it is absent."""
        ...

    def __iter__(self) -> Iterator[Element]:
        """The children, in order."""
        ...

    def __len__(self) -> int:
        """How many children there are."""
        ...


class Schema:
    """One of the RELAX NG schemas that are shipped beside this module, compiled when it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def octets(self) -> bytes:
        """The schema itself, as the documentation prints it."""
        return resources.files(__package__).joinpath("schema", self._name).read_bytes()

    @cached_property
    def _compiled(self) -> etree.RelaxNG:
        return etree.RelaxNG(etree.fromstring(self.octets, _parser(comments=True)))

    def check(self, root: Element) -> None:
        """Raises ObjectError where the document is not what the schema describes."""
        if not self._compiled.validate(root):
            error = self._compiled.error_log.last_error
            place = f" (line {error.line}, {error.type_name})" if error is not None else ""
            raise ObjectError(f"not as the schema wants it{place}")


def parse(octets: bytes, schema: Schema, *, largest: int, elements: int) -> Element:
    """The root element of a document that meets the schema.

    `largest` bounds its octets, `elements` the number of elements. Raises ObjectError.
    """
    _refuse_by_octets(octets, largest, elements)
    try:
        root = cast(Element, etree.fromstring(octets, _PARSER))
    except etree.XMLSyntaxError as error:
        raise ObjectError(f"not well-formed XML (line {error.lineno or 1})") from None
    schema.check(root)
    if b"xmlns:" in octets:
        _refuse_prefixes(root)
    return root


def _refuse_by_octets(octets: bytes, largest: int, elements: int) -> None:
    if len(octets) > largest:
        raise ObjectError(f"larger than {largest} octets")
    declaration = _DECLARATION.match(octets)
    if declaration is None and not octets.startswith(b"<"):
        raise ObjectError("an object begins with its root element or with an XML declaration for UTF-8")
    forbidden = _FORBIDDEN.search(octets, declaration.end() if declaration else 0)
    if forbidden is not None:
        raise ObjectError(_FORBIDDEN_KINDS[forbidden[0]])
    if octets.count(b"<") > 2 * elements:
        raise ObjectError("too many elements")
    if not octets.isascii():
        _refuse_all_but_utf8(octets)


def _refuse_prefixes(root: Element) -> None:
    """Only the default namespace: one way to write a name, and no namespaces by the thousand."""
    if any(element.nsmap.keys() != {None} for element in root.iter()):
        raise ObjectError("a namespace prefix")


def _refuse_all_but_utf8(octets: bytes) -> None:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ObjectError("not UTF-8") from None


def _parser(*, comments: bool = False) -> etree.XMLParser:
    # Not collect_ids=False: libxml2 then takes it that document types are wanted, and opens external ones.
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=False,
        remove_comments=comments,
    )


_PARSER: Final = _parser()
