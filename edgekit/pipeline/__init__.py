"""One module per verb: the only code that knows the order of steps and wires them."""
