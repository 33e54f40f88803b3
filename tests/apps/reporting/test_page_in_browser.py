"""The page in a browser: it sorts, and fits a phone."""

import pathlib
import re
import subprocess

import pytest

from apps.reporting import layout
from apps.reporting import page
from apps.tables import Table
from tests.apps.reporting import made

CHROMIUM = pathlib.Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM}"
    ),
]
TABLE = Table(
    "Sorted",
    ["model", "accuracy", "limit"],
    [["b", 9.5, "-"], ["a", 100.0, 2.0], ["c", 20.0, 10.0]],
)


def seen(tmp_path, text, script, width=1200):
    """Return the text that a script puts into the page's title."""
    file = tmp_path / "page.html"
    # Timers end before the page is dumped.
    tail = f"<script>document.title = (function () {{ {script} }})();</script>"
    file.write_text(text.replace("</body>", f"{tail}</body>"))
    dumped = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},800",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return re.search(r"<title>(.*?)</title>", dumped.stdout)[1]


def after_clicks(tmp_path, *columns):
    """Return the first column, and what is marked, after clicks on heads."""
    return seen(
        tmp_path,
        page.page("Title", [TABLE], {}),
        f"""
        var buttons = document.querySelectorAll("th button");
        {list(columns)}.forEach(function (i) {{ buttons[i].click(); }});
        var rows = Array.from(document.querySelector("tbody").rows);
        var heads = Array.from(document.querySelectorAll("th"));
        return rows.map(function (row) {{ return row.cells[0].innerText; }})
          .join("") + heads.map(function (each) {{
            return each.getAttribute("aria-sort") || "none"; }}).join();
        """,
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([], "bacnone,none,none"),
        ([0], "abcascending,none,none"),
        # 9.5 < 20 < 100, and not as text.
        ([1], "bcanone,ascending,none"),
        ([1, 1], "acbnone,descending,none"),
        # Numbers before text.
        ([1, 2], "acbnone,none,ascending"),
    ],
)
def test_a_click_on_a_head_sorts(tmp_path, columns, expected):
    assert after_clicks(tmp_path, *columns) == expected


def test_the_page_is_no_wider_than_a_phone_and_runs_no_foreign_script(tmp_path):
    record = made.record(made.NASTY, diagnostics=made.protocols())
    # A script from a name would replace the title.
    record["method"] = "<script>document.title = 'taken'</script>"
    tables = layout.tables({record["method"]: record})
    # Browsers do not get narrower than about 500 pixels: a frame does.
    inner = page.page("Title", tables, {})
    outer = '<html><body><iframe width="360" height="600"></iframe></body>'
    result = seen(
        tmp_path,
        f"<title></title>{outer}</html>",
        f"""
        var page = document.querySelector("iframe").contentDocument;
        page.open(); page.write({_quoted(inner)}); page.close();
        return page.title + " " + (page.documentElement.scrollWidth <= 360) +
          " " + page.querySelectorAll("script").length;
        """,
    )
    assert result == "Title true 1"


def _quoted(text):
    """Return text as a string of a script inside a page."""
    escaped = "".join(f"\\u{ord(each):04x}" for each in text)
    return f'"{escaped}"'
