"""Values in, text lines or JSON out. Pure but for the progress listeners, which write to the stream they are given."""
