"""The page: structure, escaping, nothing from elsewhere."""

import html.parser
import re

import pytest

from apps.reporting import layout
from apps.reporting import page
from apps.tables import Table
from tests.apps.reporting import made

pytestmark = pytest.mark.any_backend

TABLE = Table(
    "Accuracy", ["model", "exit_1"], [["b", 1234567.0], ["a", 0.5]], note="Note"
)
PNG = b"\x89PNG of a figure"
VOID = {"meta", "link", "img"}


class Outline(html.parser.HTMLParser):
    """Notes elements with attributes, and the text; sees that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def nasty_page():
    record = made.record(
        made.NASTY,
        diagnostics=made.protocols(),
        findings=[{"code": made.NASTY, "message": made.NASTY}],
    )
    record["data"]["name"] = made.NASTY
    record["attacks"][1]["name"] = made.NASTY
    record["environment"]["backend"] = made.NASTY
    tables = layout.tables({made.NASTY: record})
    return page.page(made.NASTY, tables, {made.NASTY: PNG})


def test_tables_can_be_sorted_by_the_value_behind_each_cell():
    outline = Outline(page.page("Title", [TABLE], {}))
    assert len(outline.all("table")) == 1
    # A button in each head: it can be reached by keyboard.
    assert [each["scope"] for each in outline.all("th")] == ["col", "col"]
    assert len(outline.all("button")) == 2
    values = [each["data-value"] for each in outline.all("td")]
    assert values == ["b", "1234567.0", "a", "0.5"]
    for text in ("Accuracy", "Note", "1,234,567", "0.50"):
        assert text in outline.texts


def test_figures_are_in_the_page():
    outline = Outline(page.page("Title", [TABLE], {"Caption": PNG}))
    (image,) = outline.all("img")
    assert image["alt"] == "Caption"
    assert image["src"].startswith("data:image/png;base64,iVBORyB")
    assert [each["href"] for each in outline.all("a")] == [
        "#tables",
        "#figures",
    ]


def test_links_lead_to_what_there_is():
    for figures in ({}, {"Caption": PNG}):
        outline = Outline(page.page("Title", [TABLE], figures))
        targets = {each.get("id") for _, each in outline.elements}
        for link in outline.all("a"):
            assert link["href"][1:] in targets


def test_phones_get_the_width_of_their_screen():
    outline = Outline(page.page("Title", [TABLE], {}))
    names = {each.get("name"): each for each in outline.all("meta")}
    assert names["viewport"]["content"] == "width=device-width, initial-scale=1"
    wide = [each for each in outline.all("div") if each.get("class") == "wide"]
    assert len(wide) == 1


@pytest.mark.parametrize(
    "make", [nasty_page, lambda: page.page("T", [TABLE], {})]
)
def test_nothing_comes_from_elsewhere(make):
    text = make()
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    for tag, attributes in Outline(text).elements:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), tag


def test_everything_from_a_record_is_escaped():
    text = nasty_page()
    assert made.NASTY not in text
    outline = Outline(text)
    # Title twice, caption and alternative text, and every cell and heading.
    assert len(outline.all("script")) == 1
    assert outline.texts.count(made.NASTY) > 10
    assert outline.all("img")[0]["alt"] == made.NASTY
    values = [each["data-value"] for each in outline.all("td")]
    assert made.NASTY in values
    handlers = {name for _, each in outline.elements for name in each}
    assert not any(name.startswith("on") for name in handlers)
