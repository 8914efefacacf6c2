"""The ``edgekit`` command: options, one call into pipeline or runtime, tables and exit codes."""
