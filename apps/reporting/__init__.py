"""Tables, figures and a page from the records of `apps.evaluate`.

- `records`: records read and checked; `version_1` reads those of version 1;
- `layout`, `measurements`: records to tables, as `grouping` compares them;
- `figures`: records to figures;
- `page`: one HTML file with all of it;
- `writing`: all of these into a folder.

`apps.tables` writes tables, `apps.plots` draws.
"""
