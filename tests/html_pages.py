"""What is in a file of HTML, read by the parser of Python: balanced tags, links, words."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "hr", "input"}


@dataclass
class Found:
    """Of a page.

    Attributes:
        from_elsewhere: Attributes that would load something, or lead to another machine.
        words: The text of every element that has some.
    """

    tags: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    from_elsewhere: list[tuple[str, str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        return self.tags.count("svg")

    @property
    def folded(self) -> int:
        return self.tags.count("details")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found, self.open = Found(), []

    def handle_starttag(self, tag, attrs):
        self._see(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._see(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes {self.open[-3:]}"

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.found.words.append(data)

    def _see(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.tags.append(tag)
        for name, value in attrs:
            value = value or ""
            self.found.attributes.append(f"{tag}.{name}")
            assert not name.startswith("on"), f"<{tag} {name}>"
            if name == "id":
                self.found.ids.append(value)
                if tag == "section":
                    self.found.sections.append(value)
            if tag == "a" and name == "href":
                self.found.links.append(value)
            if name in ("href", "src", "xlink:href", "srcset", "action", "data") and (":" in value or "//" in value):
                self.found.from_elsewhere.append((tag, value))
            if name == "style" and "url(" in value.replace("url(#", ""):
                self.found.from_elsewhere.append((tag, value))


def parsed(text: str) -> Found:
    """What is in ``text``; tags that are not closed in order fail."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open, f"not closed: {reader.open}"
    return reader.found
