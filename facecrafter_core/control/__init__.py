"""Control modules, decoupled cross-attention branches and the adapter file."""
