"""From the store to what people and programs read."""
