"""One module per host tool: builders of argument lists and parsers of output, without I/O."""
