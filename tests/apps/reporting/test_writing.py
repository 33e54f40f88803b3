"""apps.report as a whole: records in, files out."""

import pytest

from apps.reporting import writing
from tests.apps.reporting import made
from tests.isolation import hidden_packages
from tests.isolation import run_app

pytestmark = pytest.mark.any_backend


@pytest.fixture
def results(tmp_path):
    """Folder of two runs."""
    for name in ("neo_kd", "plain"):
        given = made.record(name, diagnostics=made.protocols())
        made.write(tmp_path / name / "results.json", given)
    return tmp_path


def test_a_report_on_two_runs(results, tmp_path):
    folder = tmp_path / "a" / "report"
    written = writing.write([results], folder, "Two runs")
    assert {path.name for path in written} == {
        "report.html",
        "tables.md",
        "tables.tex",
        *(f"figure_{number}.png" for number in (1, 2, 3, 4)),
    }
    assert set(folder.iterdir()) == set(written)
    for name in ("report.html", "tables.md", "tables.tex"):
        text = (folder / name).read_text()
        assert "plain" in text
        assert "37.50" in text
    page = (folder / "report.html").read_text()
    assert "<title>Two runs</title>" in page
    assert page.count("data:image/png;base64,") == 4
    for number in (1, 2, 3, 4):
        png = (folder / f"figure_{number}.png").read_bytes()
        assert png.startswith(b"\x89PNG")


def test_a_report_can_be_written_again(results, tmp_path):
    first, second = (
        [
            path.read_bytes()
            for path in writing.write([results], folder, "Title")
        ]
        for folder in [tmp_path / "report"] * 2
    )
    assert first == second


def test_nothing_is_written_where_a_record_is_broken(results, tmp_path):
    made.write(results / "broken" / "results.json", {"schema_version": 3})
    with pytest.raises(ValueError, match="is not a record of version 1 or 2"):
        writing.write([results], tmp_path / "report", "Title")
    assert not (tmp_path / "report").exists()


def test_the_app_says_what_it_wrote(results, tmp_path):
    folder = tmp_path / "report"
    said = run_app(
        "report",
        f"--results={results / 'plain'},{results / 'neo_kd'}",
        f"--output={folder}",
        "--title=Two",
        hidden=hidden_packages(),
    )
    assert said.returncode == 0, said.stderr
    assert f"Wrote {folder / 'report.html'}, " in said.stdout
    assert "<h1>Two</h1>" in (folder / "report.html").read_text()
