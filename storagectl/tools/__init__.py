"""One module per host tool: builders of argument lists and parsers of output, without I/O."""

# What reading the JSON of a tool comes to where it is not what the tool prints.
RUBBISH = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
