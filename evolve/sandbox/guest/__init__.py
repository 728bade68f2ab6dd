"""What runs inside the sandbox.

Only this folder is visible there, so its modules import one another relatively and otherwise
the standard library alone; the host uses its codec too. The guest's first process, the zygote,
imports the declared packages once and forks a fresh, confined child for every program.
"""
