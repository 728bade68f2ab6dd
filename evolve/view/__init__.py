"""Runs in a browser, live: the pages of a report over a database that is still written."""
