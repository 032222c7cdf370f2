"""Networks as plain graphs of layers: drawn up from an architecture, before any framework builds or allocates one."""
