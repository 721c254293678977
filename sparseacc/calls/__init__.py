"""What a call is, for every engine: dtypes, shapes and strides, arrays of other libraries, and what is kept of it."""
