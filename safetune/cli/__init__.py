"""Commands: parse -> engine -> report -> exit code; one error boundary around all of them."""
