"""What runs inside the sandbox.

Only this folder is visible there, so its modules import one another relatively and otherwise
the standard library alone; the host uses its wire format too. The guest's first process, the relay,
carries all data. It forks the zygote, which imports the declared packages once, forks a fresh,
confined child for every program, and never holds a byte of one.
"""
