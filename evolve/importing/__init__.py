"""Other systems' problem folders, written as ours."""
