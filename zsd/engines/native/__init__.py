"""zsd's own kernels for BERT encoders: C++ that each node compiles for itself when it is first asked for."""
