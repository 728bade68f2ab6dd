"""Language models: the protocol, LiteLLM, commands, people, a script, and what calls may cost."""
