"""Runs made from runs, and what is kept or dropped of them."""
