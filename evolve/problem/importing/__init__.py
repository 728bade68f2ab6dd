"""Problem folders of other systems, turned into ours."""
