"""One module per verb: the only code that knows the order of steps and wires them.

`choices` is what `quantizing` consists of, `builds` what `building` does.
"""
