"""Tables, figures and a page from the records of `apps.evaluate`.

- `records`: reading records;
- `schema`: what a record must hold, checked on reading;
- `layout`: records to tables, as plain rows and columns;
- `writers`: tables as Markdown and LaTeX;
- `figures`: budget curves, transfer maps, sensitivity;
- `method_sweeps`: runs that differ in a setting of their method;
- `page`: one HTML file with all of it;
- `writing`: all of these into a folder.
"""
