"""From terms to what kernels compute: which sums are formed, in which order. The engines use it, and the build."""
