"""What a guest can import: ours by capability, and the parts of WASI that we shadow."""
