"""Plan, execute, summarize: the three steps of a slot (Wan 2025, LoongFlow)."""
