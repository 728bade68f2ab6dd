"""The search: a loop over generations of plan, execute and summarize; `loop.py` is its page."""
