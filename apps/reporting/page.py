"""One HTML file: sortable tables and figures, without any other file.

Everything that comes from a record is escaped. The page has no address of
another place in it, so it works offline and from an e-mail.
"""

import base64
import html

_STYLE = """
:root { --ink: #1a1a1a; --soft: #555; --line: #ddd; --back: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eee; --soft: #aaa; --line: #444; --back: #161616; } }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1rem;
  max-width: 75rem; color: var(--ink); background: var(--back); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .2rem 0 .6rem; color: var(--soft); }
nav a { margin-right: 1rem; color: inherit; }
.wide { overflow: auto; max-height: 36rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  text-align: right; white-space: nowrap; }
th { position: sticky; top: 0; background: var(--back); }
th:first-child { z-index: 1; }
th:first-child, td:first-child { text-align: left; left: 0; }
td:first-child { position: sticky; background: var(--back); }
.text { text-align: left; }
td.text { white-space: normal; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid #06c; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
img { max-width: 100%; height: auto; background: #fff; }
@media (max-width: 40rem) { body { padding: .7rem; }
  table { font-size: .85rem; } th, td { padding: .3rem; }
  td.text { min-width: 4rem; overflow-wrap: anywhere; } }
"""

_TEXT = ' class="text"'

_SCRIPT = """
document.querySelectorAll("th button").forEach(function (button) {
  button.addEventListener("click", function () {
    var head = button.closest("th"), table = head.closest("table");
    var body = table.tBodies[0], column = head.cellIndex;
    var up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach(function (each) {
      each.removeAttribute("aria-sort");
    });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    Array.from(body.rows).sort(function (a, b) {
      var x = a.cells[column].dataset.value, y = b.cells[column].dataset.value;
      var m = Number(x), n = Number(y);
      // Numbers come before text.
      var order = isNaN(m) - isNaN(n) ||
        (isNaN(m) ? x.localeCompare(y) : m - n);
      return up ? order : -order;
    }).forEach(function (row) { body.appendChild(row); });
  });
});
"""


def page(title, tables, figures):
    """Return the page of a title, `Table`s, and PNG files by caption."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # An empty icon, or browsers ask the server for one.
        '<link rel="icon" href="data:,">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        '<nav><a href="#tables">Tables</a>',
        '<a href="#figures">Figures</a></nav>' if figures else "</nav>",
        '<main><section id="tables">',
        *(_table(table) for table in tables),
        "</section>",
    ]
    if figures:
        parts += [
            '<section id="figures">',
            *(_figure(*each) for each in figures.items()),
            "</section>",
        ]
    parts.append(f"</main><script>{_SCRIPT}</script></body></html>")
    return "\n".join(parts) + "\n"


def _table(table):
    head = "".join(
        f'<th scope="col"{_TEXT * is_text}><button type="button">'
        f"{html.escape(name)}</button></th>"
        for name, is_text in zip(table.columns, table.are_text(), strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(map(_cell, row, texts))}</tr>"
        for row, texts in zip(table.rows, table.texts(), strict=True)
    )
    note = f"<p>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f"<h2>{html.escape(table.title)}</h2>{note}"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(value, text):
    kind = _TEXT * isinstance(value, str)
    return (
        f'<td{kind} data-value="{html.escape(str(value), quote=True)}">'
        f"{html.escape(text)}</td>"
    )


def _figure(caption, png):
    caption = html.escape(caption, quote=True)
    data = base64.b64encode(png).decode()
    return (
        f'<h2>{caption}</h2><img alt="{caption}" '
        f'src="data:image/png;base64,{data}">'
    )
