"""The sections of the report that belong to one task, a file a task; `report_page.py` has what all tasks share."""
