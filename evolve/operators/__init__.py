"""Model-free changes of source, and tuning of constants."""
