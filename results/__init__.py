"""Reads studies and runs and shows them: tables, figures, the report page."""
