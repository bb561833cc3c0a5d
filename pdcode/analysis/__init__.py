"""Reading a trace: the numbers in it, and how they are printed and drawn."""
